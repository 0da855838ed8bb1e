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

torch::Tensor load_tensor(const SafetensorsFile& file, std::string_view name) {
  const TensorView& view = file.tensor(name);
  torch::Tensor tensor = torch::empty(view.shape, torch::TensorOptions().dtype(scalar_type(view.dtype)));
  if (tensor.nbytes() != view.data.size())
    fail("{}: tensor \"{}\" holds {} bytes where its shape needs {}", file.path().string(), name, view.data.size(),
         tensor.nbytes());
  if (!view.data.empty()) std::memcpy(tensor.data_ptr(), view.data.data(), view.data.size());
  return tensor;
}

torch::Tensor load_weight(const SafetensorsFile& file, std::string_view name, at::IntArrayRef shape) {
  const TensorView& view = file.tensor(name);
  if (at::IntArrayRef(view.shape) != shape)
    fail("{}: tensor \"{}\" is {} but the config says {}; was the folder copied whole?", file.path().string(), name,
         shape_text(view.shape), shape_text(shape));
  torch::Tensor weight = load_tensor(file, name).to(torch::kFloat32);
  if (!torch::isfinite(weight).all().item<bool>())
    fail("{}: tensor \"{}\" holds a NaN or infinite value", file.path().string(), name);
  return weight;
}

void save_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<torch::Tensor> kept;  // contiguous copies live until the file is written
  std::vector<TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    kept.push_back(tensor.detach().to(torch::kCPU).contiguous());
    const torch::Tensor& whole = kept.back();
    views.push_back({name, dtype_of(whole.scalar_type()), whole.sizes().vec(),
                     {static_cast<const std::byte*>(whole.const_data_ptr()), whole.nbytes()}});
  }
  write_safetensors(path, views, metadata);
}

}  // namespace sememe
