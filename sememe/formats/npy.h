#pragma once
// NumPy's array files: read versions 1 to 3 by mapping, write version 1.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/formats/dtype.h"

namespace sememe {

/// An array in memory that belongs to someone else.
struct NpyArray {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
  bool by_columns = false;  ///< Fortran order; only where there is more than one dimension
};

/// @param where what is being read, for the message
/// @throws Error naming `where` if the bytes are no array file, are truncated, big-endian or hold objects
NpyArray parse_npy(std::span<const std::byte> bytes, const std::string& where);

/// The bytes before the data of a little-endian array in C order.
/// @throws Error if NumPy has no such element type
std::string npy_header(std::span<const int64_t> shape, DType dtype);

/// A C-ordered little-endian array in a mapped file.
class NpyFile {
 public:
  /// @throws Error naming the file if it is not an array file, is truncated, Fortran-ordered, big-endian or holds
  /// objects
  explicit NpyFile(const std::filesystem::path& path);

  DType dtype() const { return array_.dtype; }
  const std::vector<int64_t>& shape() const { return array_.shape; }
  std::span<const std::byte> data() const { return array_.data; }

 private:
  MappedFile file_;
  NpyArray array_;
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
