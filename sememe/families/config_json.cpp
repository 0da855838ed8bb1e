#include "sememe/families/config_json.h"

#include <cmath>

#include "sememe/base/error.h"

namespace sememe {
namespace {

/// One of the objects that say how positions turn.
void read_rope_object(const Json& rope, TransformerConfig& config, const std::string& where) {
  const auto type = json_member_or<std::string>(rope, "rope_type", json_member_or<std::string>(rope, "type", "default", where), where);
  RotaryScaling& scaling = config.rotary_scaling;
  if (type == "linear") {
    scaling.kind = RotaryScaling::Kind::kLinear;
    scaling.factor = json_member<double>(rope, "factor", where);
  } else if (type == "llama3") {
    scaling.kind = RotaryScaling::Kind::kLlama3;
    scaling.factor = json_member<double>(rope, "factor", where);
    scaling.low_factor = json_member<double>(rope, "low_freq_factor", where);
    scaling.high_factor = json_member<double>(rope, "high_freq_factor", where);
    scaling.original_context = size_member(rope, "original_max_position_embeddings", config.context, where);
  } else if (type != "default") {
    fail("{} of type \"{}\" is not supported", where, type.substr(0, 80));
  }
  config.rotary_base = json_member_or<double>(rope, "rope_theta", config.rotary_base, where);
}

void read_rotated_part(const Json& json, const char* key, TransformerConfig& config, std::string_view where) {
  if (!json.contains(key) || json.at(key).is_null()) return;
  const auto part = json_member<double>(json, key, where);
  if (!(part > 0 && part <= 1)) fail("{}: \"{}\" is {}; it must be above 0, at most 1", where, key, part);
  config.rotary_width = part == 1.0 ? 0 : static_cast<int64_t>(static_cast<double>(config.head_width) * part);
}

}  // namespace

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
  if (!gated && tanh_gelu) return FeedForward::kGelu;
  if (!gated && name == "gelu") return FeedForward::kGeluErf;
  if (!gated && name == "relu") return FeedForward::kRelu;
  fail("{}: \"{}\" is {}, which is not supported", where, key, Json(name).dump().substr(0, 80));
}

void read_rotary(const Json& json, TransformerConfig& config, std::string_view where) {
  config.rotary_base = json_member_or<double>(json, "rope_theta", config.rotary_base, where);
  read_rotated_part(json, "partial_rotary_factor", config, where);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.contains(key) || json.at(key).is_null()) continue;
    const Json& rope = json.at(key);
    if (!rope.is_object()) fail("{}: the key \"{}\" must be an object", where, key);
    read_rope_object(rope, config, fmt::format("{}: \"{}\"", where, key));
    read_rotated_part(rope, "partial_rotary_factor", config, where);
  }
}

}  // namespace sememe
