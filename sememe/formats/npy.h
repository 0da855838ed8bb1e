#pragma once
// NumPy's array files: read versions 1 to 3 by mapping, write version 1.

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/formats/dtype.h"

namespace sememe {

/// A C-ordered little-endian array in a mapped file.
class NpyFile {
 public:
  /// @throws Error naming the file if it is not an array file, is truncated, Fortran-ordered, big-endian or holds
  /// objects
  explicit NpyFile(const std::filesystem::path& path);

  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  std::span<const std::byte> data() const { return data_; }

 private:
  MappedFile file_;
  DType dtype_ = DType::kF32;
  std::vector<int64_t> shape_;
  std::span<const std::byte> data_;
};

/// Writes a two-dimensional float32 array row by row; the number of rows need not be known before commit().
class NpyWriter {
 public:
  NpyWriter(const std::filesystem::path& path, int64_t width);
  /// Appends values.size() / width rows; the size must be a multiple of the width.
  void write(std::span<const float> values);
  void commit();

 private:
  AtomicFile file_;
  int64_t width_, rows_ = 0;
};

}  // namespace sememe
