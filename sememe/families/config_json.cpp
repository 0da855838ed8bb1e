#include "sememe/families/config_json.h"

#include <algorithm>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

void set_rotated_part(double part, TransformerConfig& config) {
  config.rotary_width = part == 1.0 ? 0 : static_cast<int64_t>(static_cast<double>(config.head_width) * part);
}

void read_rotated_part(const Json& json, const char* key, TransformerConfig& config, std::string_view where) {
  if (!json.contains(key) || json.at(key).is_null()) return;
  const auto part = json_member<double>(json, key, where);
  if (!(part > 0 && part <= 1)) fail("{}: \"{}\" is {}; it must be above 0, at most 1", where, key, part);
  set_rotated_part(part, config);
}

void read_yarn(const Json& rope, RotaryScaling& scaling, int64_t original, const std::string& where) {
  scaling = {.kind = RotaryScaling::Kind::kYarn,
             .factor = json_member<double>(rope, "factor", where),
             .low_turns = json_member_or<double>(rope, "beta_slow", 1.0, where),
             .high_turns = json_member_or<double>(rope, "beta_fast", 32.0, where),
             .original_context = original,
             .divisors = {}};
  only(rope, "truncate", {true}, where);
  only(rope, "mscale_all_dim", {0}, where);
  scaling.magnitude = json_member_or<double>(rope, "attention_factor", yarn_magnitude(scaling.factor), where);
}

/// The short factors, and the context for which they are: which are right for longer texts depends on how long the text will be (the keys of
/// its beginning would have to be turned again), so that the network takes none.
void read_longrope(const Json& rope, TransformerConfig& config, int64_t original, const std::string& where) {
  RotaryScaling& scaling = config.rotary_scaling;
  scaling.kind = RotaryScaling::Kind::kDivisors;
  scaling.divisors = json_member<std::vector<float>>(rope, "short_factor", where);
  const double ratio = static_cast<double>(config.context) / static_cast<double>(original);
  const auto factor = json_member_or<double>(rope, "factor", ratio, where);
  scaling.magnitude = json_member_or<double>(rope, "attention_factor", longrope_magnitude(factor, original), where);
  config.context = std::min(config.context, original);
}

}  // namespace

double rotated_part(const TransformerConfig& config) {
  return static_cast<double>(rotated_width(config)) / static_cast<double>(config.head_width);
}

void read_rope_object(const Json& rope, std::optional<int64_t> original_context, TransformerConfig& config, const std::string& where) {
  const auto type = json_member_or<std::string>(rope, "rope_type", json_member_or<std::string>(rope, "type", "default", where), where);
  const int64_t original =
      original_context ? *original_context : size_member(rope, "original_max_position_embeddings", config.context, where);
  RotaryScaling& scaling = config.rotary_scaling;
  if (type == "linear") {
    scaling.kind = RotaryScaling::Kind::kLinear;
    scaling.factor = json_member<double>(rope, "factor", where);
  } else if (type == "llama3") {
    scaling.kind = RotaryScaling::Kind::kLlama3;
    scaling.factor = json_member<double>(rope, "factor", where);
    scaling.low_turns = json_member<double>(rope, "low_freq_factor", where);
    scaling.high_turns = json_member<double>(rope, "high_freq_factor", where);
    scaling.original_context = original;
  } else if (type == "yarn") {
    read_yarn(rope, scaling, original, where);
  } else if (type == "longrope" || type == "su") {
    read_longrope(rope, config, original, where);
  } else if (type != "default") {
    fail("{} of type \"{}\" is not supported", where, shown(type));
  }
  config.rotary_base = json_member_or<double>(rope, "rope_theta", config.rotary_base, where);
}

int64_t size_member(const Json& json, const char* key, std::optional<int64_t> fallback, std::string_view where) {
  const int64_t size = fallback ? json_member_or<int64_t>(json, key, *fallback, where) : json_member<int64_t>(json, key, where);
  if (size < 1 || size > (int64_t{1} << 31)) fail("{}: \"{}\" is {}; it must be from 1 to 2^31", where, key, size);
  return size;
}

void only(const Json& json, const char* key, std::initializer_list<Json> values, std::string_view where) {
  if (!json.contains(key) || json.at(key).is_null()) return;
  for (const Json& value : values)
    if (json.at(key) == value) return;
  fail("{}: \"{}\" is {}, which is not supported", where, key, json.at(key).dump().substr(0, 80));
}

FeedForward feed_forward_member(const Json& json, const char* key, const char* fallback, bool gated, std::string_view where) {
  const auto name = json_member_or<std::string>(json, key, fallback, where);
  const bool tanh_gelu = name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast";
  if (gated && (name == "silu" || name == "swish")) return FeedForward::kGatedSilu;
  if (gated && tanh_gelu) return FeedForward::kGatedGelu;
  if (gated && name == "relu") return FeedForward::kGatedRelu;
  if (!gated && tanh_gelu) return FeedForward::kGelu;
  if (!gated && name == "gelu") return FeedForward::kGeluErf;
  if (!gated && name == "relu") return FeedForward::kRelu;
  fail("{}: \"{}\" is \"{}\", which is not supported", where, key, shown(name));
}

const char* feed_forward_name(FeedForward function) {
  switch (function) {
    case FeedForward::kGelu: return "gelu_new";
    case FeedForward::kGeluErf: return "gelu";
    case FeedForward::kRelu: return "relu";
    case FeedForward::kGatedSilu: return "silu";
    case FeedForward::kGatedGelu: return "gelu_pytorch_tanh";
    case FeedForward::kGatedRelu: return "relu";
  }
  fail("the transformer's feed_forward is {}, which is none of those there are", static_cast<int>(function));
}

void write_layer_types(const TransformerConfig& config, Json& json) {
  json["layer_types"] = Json::array();
  for (int64_t i = 0; i < config.layers; ++i) json["layer_types"].push_back(is_local(config, i) ? "sliding_attention" : "full_attention");
}

void read_rotary(const Json& json, TransformerConfig& config, std::string_view where, const char* base_key, const char* part_key, double part) {
  config.rotary_base = json_member_or<double>(json, base_key, config.rotary_base, where);
  set_rotated_part(part, config);
  read_rotated_part(json, part_key, config, where);
  std::optional<int64_t> original;
  if (constexpr const char* kOriginal = "original_max_position_embeddings"; json.contains(kOriginal) && !json.at(kOriginal).is_null())
    original = size_member(json, kOriginal, {}, where);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json.at(key).is_null()) continue;
    const Json& rope = json.at(key);
    if (!rope.is_object()) fail("{}: the key \"{}\" must be an object", where, key);
    read_rope_object(rope, original, config, fmt::format("{}: \"{}\"", where, key));
    read_rotated_part(rope, "partial_rotary_factor", config, where);
  }
}

TransformerConfig common_config(const Json& json, std::string_view where) {
  TransformerConfig config;
  config.vocabulary = size_member(json, "vocab_size", {}, where);
  config.context = size_member(json, "max_position_embeddings", {}, where);
  config.width = size_member(json, "hidden_size", {}, where);
  config.layers = size_member(json, "num_hidden_layers", {}, where);
  config.heads = size_member(json, "num_attention_heads", {}, where);
  config.key_value_heads = size_member(json, "num_key_value_heads", config.heads, where);
  config.head_width = size_member(json, "head_dim", std::max<int64_t>(config.width / config.heads, 1), where);
  config.feed_forward_width = size_member(json, "intermediate_size", {}, where);
  config.tied_head = json_member_or<bool>(json, "tie_word_embeddings", false, where);
  return config;
}

void read_local_layers(const Json& json, int64_t window, const std::function<bool(int64_t layer)>& local, TransformerConfig& config,
                       std::string_view where) {
  const Json types = json.contains("layer_types") ? json.at("layer_types") : Json();
  if (!types.is_null() && (!types.is_array() || static_cast<int64_t>(types.size()) != config.layers))
    fail("{}: \"layer_types\" must be an array of {}, one for each layer", where, config.layers);
  if (config.layers > 10000) return;  // which check_config refuses
  std::vector<bool> layers(config.layers);
  for (int64_t i = 0; i < config.layers; ++i) {
    if (types.is_null()) {
      layers[i] = local(i);
    } else if (types[i] != "sliding_attention" && types[i] != "full_attention") {
      fail("{}: \"layer_types\" has {}, which is not supported", where, types[i].dump().substr(0, 80));
    } else {
      layers[i] = types[i] == "sliding_attention";
    }
  }
  if (std::find(layers.begin(), layers.end(), true) == layers.end()) return;
  config.window = window;
  config.local_layers = std::move(layers);
}

}  // namespace sememe
