#include "sememe/features/interchange/weight_file.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"

namespace sememe {
namespace {

const TensorView* find(const NpzFile& file, std::string_view name) {
  for (const TensorView& tensor : file.tensors())
    if (tensor.name == name) return &tensor;
  return nullptr;
}

}  // namespace

WeightFile::WeightFile(const std::filesystem::path& path) : path_(path) {
  if (path.extension() == ".safetensors")
    file_.emplace<SafetensorsFile>(path);
  else if (path.extension() == ".npz")
    file_.emplace<NpzFile>(path);
  else
    file_.emplace<TorchCheckpoint>(path);
}

bool WeightFile::contains(std::string_view name) const {
  if (const auto* const npz = std::get_if<NpzFile>(&file_)) return find(*npz, name) != nullptr;
  if (const auto* const checkpoint = std::get_if<TorchCheckpoint>(&file_)) return checkpoint->contains(name);
  return std::get<SafetensorsFile>(file_).contains(name);
}

const TensorView& WeightFile::view(std::string_view name) {
  if (auto* const checkpoint = std::get_if<TorchCheckpoint>(&file_)) return checkpoint->tensor(name);
  if (const auto* const safetensors = std::get_if<SafetensorsFile>(&file_)) return safetensors->tensor(name);
  const auto& npz = std::get<NpzFile>(file_);
  if (const TensorView* const tensor = find(npz, name)) return *tensor;
  std::string held;
  for (const TensorView& tensor : npz.tensors())
    if (held.size() < 400) held += (held.empty() ? "" : ", ") + tensor.name;
  fail("{}: no array \"{}\"; it holds {}", path_.string(), name, held.empty() ? "none" : held);
}

std::vector<int64_t> WeightFile::shape(std::string_view name) { return view(name).shape; }

std::pair<int64_t, int64_t> WeightFile::matrix_shape(std::string_view name) {
  const std::vector<int64_t> found = shape(name);
  if (found.size() != 2 || found[0] < 1 || found[1] < 1)
    fail("{}: tensor \"{}\" is [{}], it should be a matrix", path_.string(), name, fmt::join(found, ", "));
  return {found[0], found[1]};
}

torch::Tensor WeightFile::load(std::string_view name, at::IntArrayRef shape) { return weight_of(view(name), shape, path_); }

double WeightFile::number(std::string_view name) {
  const std::string where = fmt::format("{}: tensor \"{}\"", path_.string(), name);
  const torch::Tensor tensor = tensor_of(view(name), where);
  if (tensor.numel() != 1) fail("{} holds {} numbers, it should hold one", where, tensor.numel());
  const double value = tensor.to(torch::kDouble).item<double>();
  if (!std::isfinite(value)) fail("{} is NaN or infinite", where);
  return value;
}

Json WeightFile::values() const {
  if (const auto* const checkpoint = std::get_if<TorchCheckpoint>(&file_)) return checkpoint->values();
  if (const auto* const safetensors = std::get_if<SafetensorsFile>(&file_)) return Json(safetensors->metadata());
  return Json::object();
}

}  // namespace sememe
