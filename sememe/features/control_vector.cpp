#include "sememe/features/control_vector.h"

#include <charconv>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/formats/gguf.h"
#include "sememe/formats/gguf_writer.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

constexpr std::string_view kPrefix = "direction.";
constexpr int64_t kMostLayers = 10000;

/// The number that follows `prefix` and ends the text, or stands before `suffix`; -1 if there is none.
int64_t number_between(std::string_view text, std::string_view prefix, std::string_view suffix) {
  if (!text.starts_with(prefix) || !text.ends_with(suffix) || text.size() <= prefix.size() + suffix.size()) return -1;
  text = text.substr(prefix.size(), text.size() - prefix.size() - suffix.size());
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

}  // namespace

ControlVector ControlVector::load(const std::filesystem::path& path) {
  const GgufFile file(path);
  if (const std::string& kind = file.text("general.architecture"); kind != "controlvector")
    fail("{}: general.architecture is \"{}\", not \"controlvector\"", path.string(), shown(kind));
  ControlVector vector;
  if (file.has_key("controlvector.model_hint")) vector.model_hint = file.text("controlvector.model_hint");
  for (const GgufTensor& tensor : file.tensors()) {
    const int64_t layer = number_between(tensor.name, kPrefix, "");
    if (layer < 1 || layer > kMostLayers)
      fail("{}: tensor \"{}\" is no direction of a layer from 1 on (\"direction.7\")", path.string(), shown(tensor.name));
    if (tensor.type != GgmlType::kF32 || tensor.shape.size() != 1 || tensor.shape[0] < 1)
      fail("{}: tensor \"{}\" is no row of float32", path.string(), tensor.name);
    const torch::Tensor direction = torch::tensor(dequantize(tensor));
    if (!torch::isfinite(direction).all().item<bool>()) fail("{}: tensor \"{}\" holds a NaN or infinite value", path.string(), tensor.name);
    if (!vector.directions.empty() && vector.directions.begin()->second.size(0) != direction.size(0))
      fail("{}: tensor \"{}\" has a width of {}, another has {}", path.string(), tensor.name, direction.size(0),
           vector.directions.begin()->second.size(0));
    vector.directions.emplace(layer, direction);
  }
  if (vector.directions.empty()) fail("{}: holds no direction", path.string());
  return vector;
}

void ControlVector::save(const std::filesystem::path& path) const {
  if (directions.empty()) fail("{}: there is no direction to write", path.string());
  std::vector<torch::Tensor> rows;
  std::vector<GgufTensor> tensors;
  for (const auto& [layer, direction] : directions) {
    if (layer < 1) fail("{}: control vectors have no place for a direction of block 0", path.string());
    rows.push_back(direction.to(torch::kCPU, torch::kFloat32).contiguous());
    const auto* const begin = reinterpret_cast<const std::byte*>(rows.back().const_data_ptr<float>());
    tensors.push_back({fmt::format("{}{}", kPrefix, layer), GgmlType::kF32, {rows.back().size(0)}, {begin, rows.back().nbytes()}});
  }
  const GgufEntry metadata[] = {{"general.architecture", std::string("controlvector")},
                                {"controlvector.model_hint", model_hint},
                                {"controlvector.layer_count", static_cast<uint32_t>(directions.size())}};
  write_gguf(path, metadata, tensors);
}

ControlVector control_vector_of(const Intervention& intervention, const Dictionary& dictionary) {
  const int64_t layer = number_between(intervention.site, "blocks.", ".output");
  if (layer < 1)
    fail_usage("a control vector acts behind blocks 1, 2, ... (\"blocks.7.output\"), and this dictionary is at {}; save a .json instead",
               intervention.site);
  torch::Tensor sum;
  for (const Edit& edit : intervention.edits) {
    if (edit.kind != EditKind::kAdd) fail_usage("a control vector can only add; \"{}\" needs the dictionary: save a .json instead", to_string(edit));
    const torch::Tensor row = addition_of(edit, dictionary);
    sum = sum.defined() ? sum + row : row;
  }
  if (!sum.defined()) fail_usage("there is no edit to save");
  return {"", {{layer, sum}}};
}

}  // namespace sememe
