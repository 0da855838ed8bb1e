#include "sememe/families/family.h"

#include <algorithm>
#include <optional>
#include <set>

#include "sememe/base/error.h"
#include "sememe/families/encoder_config.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"
#include "sememe/formats/shown.h"

namespace sememe {

Family gemma2(), gemma3(), gpt2(), gpt_neox(), llama(), mistral(), opt(), phi(), phi3(), qwen2(), qwen3();

namespace {

/// A family is one name here and above.
const std::vector<Family>& families() {
  static const std::vector<Family> all = {gemma2(), gemma3(), gpt2(), gpt_neox(), llama(), mistral(), opt(), phi(), phi3(), qwen2(), qwen3()};
  return all;
}

/// "..." and "..." are supported: the families' names or those of the architectures.
std::string list(std::string Family::* member) {
  std::vector<std::string> names;
  for (const Family& family : families())
    if (!(family.*member).empty()) names.push_back(fmt::format("\"{}\"", family.*member));
  const std::string last = names.back();
  names.pop_back();
  return names.empty() ? last + " is supported" : fmt::format("{} and {} are supported", fmt::join(names, ", "), last);
}

const Family& family_of_json(const Json& json, std::string_view where) {
  const auto name = json_member<std::string>(json, "model_type", where);
  for (const Family& family : families())
    if (family.name == name) return family;
  if (is_encoder(name))
    fail("{}: \"model_type\" is \"{}\", an encoder, which predicts no next token; `sememe model embed`, `model info` and `capture` take it",
         where, name);
  fail("{}: \"model_type\" is \"{}\"; {}", where, shown(name), list(&Family::name));
}

const Family& family_of_gguf(const GgufFile& file) {
  const std::string& name = file.text("general.architecture");
  for (const Family& family : families())
    if (!family.architecture.empty() && family.architecture == name) return family;
  fail("{}: general.architecture is \"{}\"; {}", file.path().string(), shown(name), list(&Family::architecture));
}

void check(const TransformerConfig& config, std::string_view where) {
  if (config.context > (int64_t{1} << 20)) fail("{}: a context of {} tokens is too long", where, config.context);
  try {
    check_config(config);
  } catch (const Error& error) {
    fail("{}: {}", where, error.what());
  }
}

std::string with_number(std::string name, int64_t number) {
  if (const size_t at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(number));
  return name;
}

/// The rows for the parameters that the config has, for each block, and for their biases.
std::vector<TensorPlace> expand(const TransformerConfig& config, const TensorNames& names) {
  std::set<std::string> parameters, placed;
  for (const ParameterShape& parameter : parameter_shapes(config)) parameters.insert(parameter.name);
  std::vector<TensorPlace> places;
  const auto add = [&](const TensorPlace& row, int64_t block) {
    for (const char* const bias : {"", "_bias"}) {
      TensorPlace place = row;
      place.tensor = with_number(row.tensor, block) + (*bias ? ".bias" : ".weight");
      if (*bias) place.transposed = false;
      for (std::string& parameter : place.parameters) parameter = with_number(parameter, block) + bias;
      if (!parameters.contains(place.parameters.front())) continue;
      placed.insert(place.parameters.begin(), place.parameters.end());
      places.push_back(std::move(place));
    }
  };
  const auto in_block = [](const TensorPlace& row) { return row.tensor.find("{}") != std::string::npos; };
  const auto blocks = std::find_if(names.begin(), names.end(), in_block);
  const auto after = std::find_if_not(blocks, names.end(), in_block);
  for (auto row = names.begin(); row != blocks; ++row) add(*row, 0);
  for (int64_t i = 0; i < config.layers; ++i)
    for (auto row = blocks; row != after; ++row) add(*row, i);
  for (auto row = after; row != names.end(); ++row) add(*row, 0);
  for (const std::string& parameter : parameters)
    if (!placed.contains(parameter)) fail("no tensor is named for the parameter \"{}\"", parameter);
  return places;
}

/// Refuses a config that asks for more weights than the files hold.
void check_size(const TransformerConfig& config, const WeightFiles& files, std::string_view where) {
  double wanted = 0;
  for (const ParameterShape& parameter : parameter_shapes(config))
    if (parameter.shape.size() == 2) wanted += static_cast<double>(parameter.shape[0]) * static_cast<double>(parameter.shape[1]);
  if (wanted > static_cast<double>(files.num_weights()))
    fail("{}: the config asks for {:.0f} weights but the files hold {}; was the folder copied whole?", where, wanted, files.num_weights());
}

bool ends_in(const std::string& name, const std::vector<std::string>& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](const std::string& ending) { return name.ends_with(ending); });
}

[[noreturn]] void refuse_left_over(std::string_view where, const std::string& name) {
  fail("{}: the tensor \"{}\" has no place in this network; a model with it is not supported", where, shown(name));
}

/// What stays of a config when a file without rotary positions holds it.
TransformerConfig without_unused(TransformerConfig config) {
  if (config.positions == Positions::kRotary) return config;
  const TransformerConfig plain;
  config.rotary_base = plain.rotary_base;
  return config;
}

bool holds(const Family& family, const TransformerConfig& config) {
  try {
    return family.to_json && family.from_json(family.to_json(config), family.name) == without_unused(config);
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

TensorPlace& row_of(TensorNames& names, std::string_view parameter) {
  const auto row = std::find_if(names.begin(), names.end(), [&](const TensorPlace& place) { return place.parameters.front() == parameter; });
  if (row == names.end()) fail("no tensor is named for the parameter \"{}\"", parameter);
  return *row;
}

void fuse(TensorNames& names, const std::vector<std::string>& parameters, const std::string& tensor) {
  row_of(names, parameters.front()) = {tensor, parameters};
  std::erase_if(names, [&](const TensorPlace& row) {
    return std::find(parameters.begin() + 1, parameters.end(), row.parameters.front()) != parameters.end();
  });
}

TensorNames common_gguf_names(const TransformerConfig&) {
  return {{"token_embd", {"embedding"}},
          {"blk.{}.attn_norm", {"block{}.attention_norm"}},
          {"blk.{}.attn_q", {"block{}.query"}},
          {"blk.{}.attn_k", {"block{}.key"}},
          {"blk.{}.attn_v", {"block{}.value"}},
          {"blk.{}.attn_q_norm", {"block{}.query_norm"}},
          {"blk.{}.attn_k_norm", {"block{}.key_norm"}},
          {"blk.{}.attn_output", {"block{}.output"}},
          {"blk.{}.post_attention_norm", {"block{}.attention_post_norm"}},
          {"blk.{}.ffn_norm", {"block{}.mlp_norm"}},
          {"blk.{}.ffn_gate", {"block{}.gate"}},
          {"blk.{}.ffn_up", {"block{}.up"}},
          {"blk.{}.ffn_down", {"block{}.down"}},
          {"blk.{}.post_ffw_norm", {"block{}.mlp_post_norm"}},
          {"output_norm", {"norm"}},
          {"output", {"head"}}};
}

TransformerConfig config_from_json(const Json& json, std::string_view where) {
  const Family& family = family_of_json(json, where);
  if (json.contains("quantization_config") && !json.at("quantization_config").is_null())
    fail("{}: \"quantization_config\" is there; weights that were quantised for another library are not supported", where);
  const TransformerConfig config = family.from_json(json, where);
  check(config, where);
  return config;
}

ModelDescription describe_folder(const WeightFiles& files) {
  const std::string where = (files.folder() / "config.json").string();
  const Json json = read_json(where);
  const Family& family = family_of_json(json, where);
  ModelDescription description{config_from_json(json, where), {}};
  check_size(description.config, files, where);
  description.places = expand(description.config, family.folder_names(description.config));
  std::set<std::string> used;
  for (TensorPlace& place : description.places) {
    if (!files.contains(place.tensor) && place.tensor.starts_with(family.prefix))
      if (const std::string bare = place.tensor.substr(family.prefix.size()); files.contains(bare)) place.tensor = bare;
    files.holding(place.tensor).tensor(place.tensor);
    used.insert(place.tensor);
  }
  for (const auto& [name, file] : files.names())
    if (!used.contains(name) && !ends_in(name, family.ignored)) refuse_left_over(files.holding(name).path().string(), name);
  return description;
}

ModelDescription describe_gguf(const GgufFile& file) {
  const std::string where = file.path().string();
  const Family& family = family_of_gguf(file);
  ModelDescription description{family.from_gguf(file), {}};
  check(description.config, where);
  TensorNames names = family.gguf_names(description.config);
  // Converters of other ages keep apart what this one keeps together (Phi 2).
  if (row_of(names, "block{}.query").parameters.size() == 1 && file.contains("blk.0.attn_qkv.weight")) fuse(names, kQueriesKeysValues, "blk.{}.attn_qkv");
  description.places = expand(description.config, names);
  const ParameterShapes shapes(description.config);
  std::set<std::string> used;
  for (const TensorPlace& place : description.places) {
    used.insert(place.tensor);
    const std::vector<int64_t> wanted = shapes.tensor_shape(place);
    if (const GgufTensor& tensor = file.tensor(place.tensor); tensor.shape != wanted)
      fail("{}: tensor \"{}\" is [{}] but the metadata says [{}]", where, place.tensor, fmt::join(tensor.shape, ", "), fmt::join(wanted, ", "));
  }
  for (const GgufTensor& tensor : file.tensors())
    if (!used.contains(tensor.name) && !is_rotary_tensor(tensor.name)) refuse_left_over(where, tensor.name);
  return description;
}

ModelDescription describe_llama2c(const Llama2cFile& file) {
  ModelDescription description{llama2c_config(file), {}};
  check(description.config, file.path().string());
  description.places = expand(description.config, llama2c_names(description.config));
  return description;
}

WrittenFolder describe_written(const TransformerConfig& config) {
  std::vector<std::string> written;
  for (const Family& family : families()) {
    if (holds(family, config)) return {family.to_json(config), expand(config, family.folder_names(config))};
    if (family.to_json) written.push_back(family.name);
  }
  fail("this transformer cannot be written as a folder: it is none that the config.json of {} can say", fmt::join(written, ", "));
}

ParameterShapes::ParameterShapes(const TransformerConfig& config) {
  for (ParameterShape& parameter : parameter_shapes(config)) shapes_.emplace(std::move(parameter.name), std::move(parameter.shape));
}

std::vector<int64_t> ParameterShapes::tensor_shape(const TensorPlace& place) const {
  std::vector<int64_t> shape = of(place.parameters.front());
  for (size_t i = 1; i < place.parameters.size(); ++i) shape[0] += of(place.parameters[i])[0];
  if (place.transposed) std::swap(shape.front(), shape.back());
  return shape;
}

std::vector<int64_t> ParameterShapes::rows_in_tensor(const TensorPlace& place, size_t index) const {
  std::vector<int64_t> rows(of(place.parameters[index])[0]);
  const auto count = static_cast<int64_t>(rows.size()), per_head = count / place.heads;
  int64_t before = 0, all = 0;
  for (size_t i = 0; i < place.parameters.size(); ++i) {
    const int64_t height = of(place.parameters[i])[0];
    if (i < index) before += height;
    all += height;
  }
  for (int64_t row = 0; row < count; ++row) {
    const int64_t head = row / per_head, in_head = row % per_head;
    switch (place.rows) {
      case TensorPlace::Rows::kStacked: rows[row] = before + row; break;
      case TensorPlace::Rows::kByHead: rows[row] = head * (all / place.heads) + before / place.heads + in_head; break;
      case TensorPlace::Rows::kPairs: rows[row] = head * per_head + 2 * (in_head % (per_head / 2)) + in_head / (per_head / 2); break;
    }
  }
  return rows;
}

}  // namespace sememe
