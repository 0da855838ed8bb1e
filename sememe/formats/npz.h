#pragma once
// NumPy's archives of named arrays (.npz): a zip of .npy files, stored (numpy.savez) or deflated (numpy.savez_compressed).

#include <deque>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "sememe/formats/tensor_view.h"
#include "sememe/formats/zip.h"

namespace sememe {

class NpzFile {
 public:
  /// @throws Error naming the file, and the array at fault
  explicit NpzFile(const std::filesystem::path& path);

  /// Row-major, by name; the views live as long as this object.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  const std::filesystem::path& path() const { return archive_.path(); }

 private:
  ZipFile archive_;
  std::deque<std::vector<std::byte>> owned_;  // what was inflated, or stored by columns
  std::vector<TensorView> tensors_;
};

/// @throws Error if two share a name, a view's bytes do not match its shape, or NumPy has no such element type
void write_npz(const std::filesystem::path& path, std::span<const TensorView> tensors);

}  // namespace sememe
