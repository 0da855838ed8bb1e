#pragma once
// Tensors to and from files: the one bridge between LibTorch and the formats.

#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sememe/formats/npy.h"
#include "sememe/formats/safetensors.h"

namespace sememe {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// A copy of the tensor `name`. @throws Error naming file and tensor
torch::Tensor load_tensor(const SafetensorsFile& file, std::string_view name);

/// As load_tensor, converted to float32.
/// @throws Error naming file, tensor, the shape found and the shape wanted, or a NaN or infinite value
torch::Tensor load_weight(const SafetensorsFile& file, std::string_view name, at::IntArrayRef shape);

/// A copy of the view's values. @param where names file and tensor in an error
torch::Tensor tensor_of(const TensorView& view, std::string_view where);

/// As tensor_of, converted to float32.
/// @throws Error naming the file, the tensor, the shape found and the shape wanted, or a NaN or infinite value
torch::Tensor weight_of(const TensorView& view, at::IntArrayRef shape, const std::filesystem::path& file);

/// Calls `write` with views of the tensors, contiguous and on the CPU.
void with_views(const NamedTensors& tensors, const std::function<void(std::span<const TensorView>)>& write);

void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata = {});

c10::ScalarType scalar_type(DType dtype);
DType dtype_of(c10::ScalarType type);

}  // namespace sememe
