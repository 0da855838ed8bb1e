#include "sememe/network/tensors.h"

#include <cstring>

#include "sememe/base/error.h"

namespace sememe {

namespace {

struct TypePair {
  DType dtype;
  c10::ScalarType scalar;
};

constexpr TypePair kTypes[] = {
    {DType::kBool, torch::kBool},      {DType::kU8, torch::kUInt8},       {DType::kI8, torch::kInt8},
    {DType::kU16, torch::kUInt16},     {DType::kI16, torch::kInt16},      {DType::kU32, torch::kUInt32},
    {DType::kI32, torch::kInt32},      {DType::kU64, torch::kUInt64},     {DType::kI64, torch::kInt64},
    {DType::kF8E4M3, torch::kFloat8_e4m3fn}, {DType::kF8E5M2, torch::kFloat8_e5m2}, {DType::kF16, torch::kFloat16},
    {DType::kBF16, torch::kBFloat16},  {DType::kF32, torch::kFloat32},    {DType::kF64, torch::kFloat64},
};

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

}  // namespace

c10::ScalarType scalar_type(DType dtype) {
  for (const TypePair& pair : kTypes)
    if (pair.dtype == dtype) return pair.scalar;
  fail("the element type {} has no tensor type", dtype_name(dtype));
}

DType dtype_of(c10::ScalarType type) {
  for (const TypePair& pair : kTypes)
    if (pair.scalar == type) return pair.dtype;
  fail("tensors of type {} cannot be saved; convert to float32 first", c10::toString(type));
}

torch::Tensor tensor_of(const TensorView& view, std::string_view where) {
  torch::Tensor tensor = torch::empty(view.shape, torch::TensorOptions().dtype(scalar_type(view.dtype)));
  if (tensor.nbytes() != view.data.size())
    fail("{}: holds {} bytes where its shape needs {}", where, view.data.size(), tensor.nbytes());
  if (!view.data.empty()) std::memcpy(tensor.data_ptr(), view.data.data(), view.data.size());
  return tensor;
}

torch::Tensor weight_of(const TensorView& view, at::IntArrayRef shape, const std::filesystem::path& file) {
  const std::string where = fmt::format("{}: tensor \"{}\"", file.string(), view.name);
  if (at::IntArrayRef(view.shape) != shape)
    fail("{} is {} but the config says {}; was the folder copied whole?", where, shape_text(view.shape), shape_text(shape));
  torch::Tensor weight = tensor_of(view, where).to(torch::kFloat32);
  if (!torch::isfinite(weight).all().item<bool>()) fail("{} holds a NaN or infinite value", where);
  return weight;
}

torch::Tensor load_tensor(const SafetensorsFile& file, std::string_view name) {
  return tensor_of(file.tensor(name), fmt::format("{}: tensor \"{}\"", file.path().string(), name));
}

torch::Tensor load_weight(const SafetensorsFile& file, std::string_view name, at::IntArrayRef shape) {
  return weight_of(file.tensor(name), shape, file.path());
}

void with_views(const NamedTensors& tensors, const std::function<void(std::span<const TensorView>)>& write) {
  std::vector<torch::Tensor> kept;  // contiguous copies live until they are written
  std::vector<TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().to(torch::kCPU).contiguous());
    const torch::Tensor& whole = kept.back();
    views.push_back({name, dtype_of(whole.scalar_type()), whole.sizes().vec(),
                     {static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()}});
  }
  write(views);
}

void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata) {
  with_views(tensors, [&](std::span<const TensorView> views) { write_safetensors(path, views, metadata); });
}

}  // namespace sememe
