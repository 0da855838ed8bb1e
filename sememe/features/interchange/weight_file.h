#pragma once
// Named tensors of whichever kind of file a tool writes: safetensors, .npz or a PyTorch checkpoint.

#include <filesystem>
#include <optional>
#include <string_view>
#include <variant>
#include <vector>

#include "sememe/formats/npz.h"
#include "sememe/formats/pickle.h"
#include "sememe/network/tensors.h"

namespace sememe {

class WeightFile {
 public:
  /// The ending says which kind: .safetensors, .npz, anything else is a PyTorch checkpoint.
  /// @throws Error as the readers
  explicit WeightFile(const std::filesystem::path& path);

  bool contains(std::string_view name) const;
  /// @throws Error naming the file, listing what it holds
  std::vector<int64_t> shape(std::string_view name);
  /// Rows and columns. @throws Error naming file and tensor unless it has two dimensions of at least 1
  std::pair<int64_t, int64_t> matrix_shape(std::string_view name);
  /// float32. @throws Error as weight_of
  torch::Tensor load(std::string_view name, at::IntArrayRef shape);
  /// The one number in the tensor, of any type. @throws Error unless there is one and it is finite
  double number(std::string_view name);
  /// What is no tensor: a checkpoint's plain values, the metadata of a safetensors file, nothing of an .npz.
  Json values() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  const TensorView& view(std::string_view name);

  std::filesystem::path path_;
  std::variant<std::monostate, SafetensorsFile, NpzFile, TorchCheckpoint> file_;
};

}  // namespace sememe
