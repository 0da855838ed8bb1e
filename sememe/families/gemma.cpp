// Gemma 2 (Gemma Team 2024) and the text models of Gemma 3 (2025).

#include <algorithm>
#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

/// What both have, in files of either kind.
void set_common(TransformerConfig& config) {
  config.post_norms = true;
  config.feed_forward = FeedForward::kGatedGelu;
  config.embedding_scale = std::sqrt(static_cast<double>(config.width));
}

/// A member that is `fallback` where it is missing and 0 where it is null.
double softcap_member(const Json& json, const char* key, double fallback, std::string_view where) {
  if (!json.contains(key)) return fallback;
  return json_member_or<double>(json, key, 0.0, where);
}

/// Of both.
TransformerConfig read(const Json& json, std::string_view where) {
  TransformerConfig config = common_config(json, where);
  config.key_value_heads = size_member(json, "num_key_value_heads", {}, where);
  config.head_width = size_member(json, "head_dim", 256, where);
  config.tied_head = json_member_or<bool>(json, "tie_word_embeddings", true, where);
  config.norm_epsilon = json_member_or<double>(json, "rms_norm_eps", 1e-6, where);
  feed_forward_member(json, "hidden_activation", "gelu_pytorch_tanh", true, where);
  only(json, "hidden_activation", {"gelu_pytorch_tanh", "gelu_new"}, where);
  only(json, "attention_bias", {false}, where);
  only(json, "use_bidirectional_attention", {false}, where);
  const auto scalar = json_member_or<double>(json, "query_pre_attn_scalar", 256.0, where);
  if (!(scalar > 0)) fail("{}: \"query_pre_attn_scalar\" is {}; it must be positive", where, scalar);
  config.attention_scale = 1.0 / std::sqrt(scalar);
  set_common(config);
  return config;
}

TransformerConfig gemma2_from_json(const Json& json, std::string_view where) {
  TransformerConfig config = read(json, where);
  config.attention_softcap = softcap_member(json, "attn_logit_softcapping", 50.0, where);
  config.final_softcap = softcap_member(json, "final_logit_softcapping", 30.0, where);
  read_rotary(json, config, where);
  const int64_t window = size_member(json, "sliding_window", 4096, where);
  read_local_layers(json, window, [](int64_t layer) { return layer % 2 == 0; }, config, where);
  return config;
}

/// Newer files have an object for each kind of layer, older ones keys for both.
void read_gemma3_rotary(const Json& json, TransformerConfig& config, std::string_view where) {
  config.rotary_base = 1e6;
  config.local_rotary_base = json_member_or<double>(json, "rope_local_base_freq", 10000.0, where);
  if (!json.contains("rope_parameters") || !json.at("rope_parameters").is_object() || json.at("rope_parameters").contains("rope_type"))
    return read_rotary(json, config, where);
  only(json, "rope_scaling", {}, where);
  for (const auto& [kind, rope] : json.at("rope_parameters").items()) {
    const std::string place = fmt::format("{}: \"rope_parameters\": \"{}\"", where, shown(kind));
    TransformerConfig read = config;
    if (kind == "sliding_attention") read.rotary_base = config.local_rotary_base;
    if (!rope.is_object() || (kind != "full_attention" && kind != "sliding_attention")) fail("{} is not supported", place);
    read_rope_object(rope, {}, read, place);
    only(rope, "partial_rotary_factor", {1.0}, place);
    if (kind == "full_attention") {
      config.rotary_base = read.rotary_base;
      config.rotary_scaling = read.rotary_scaling;
    } else {
      only(rope, "rope_type", {"default"}, place);
      config.local_rotary_base = read.rotary_base;
    }
  }
}

TransformerConfig gemma3_from_json(const Json& json, std::string_view where) {
  TransformerConfig config = read(json, where);
  config.query_key_norm = true;
  config.attention_softcap = softcap_member(json, "attn_logit_softcapping", 0, where);
  config.final_softcap = softcap_member(json, "final_logit_softcapping", 0, where);
  read_gemma3_rotary(json, config, where);
  const int64_t window = size_member(json, "sliding_window", 4096, where);
  only(json, "sliding_window_pattern", {6}, where);
  read_local_layers(json, window, [](int64_t layer) { return layer % 6 != 5; }, config, where);
  return config;
}

/// What attention divides by, squared: a whole number where that gives the scale back.
double query_scalar(const TransformerConfig& config) {
  const double scale = attention_scale(config), scalar = 1.0 / (scale * scale);
  return 1.0 / std::sqrt(std::round(scalar)) == scale ? std::round(scalar) : scalar;
}

/// Of both.
Json to_json(const TransformerConfig& config, const char* type, const char* architecture) {
  Json json = llama_to_json(config);
  json["model_type"] = type;
  json["architectures"] = {architecture};
  json["hidden_activation"] = "gelu_pytorch_tanh";
  for (const char* const key : {"hidden_act", "mlp_bias"}) json.erase(key);
  json["attention_bias"] = false;
  const double scalar = query_scalar(config);
  json["query_pre_attn_scalar"] = scalar == std::round(scalar) ? Json(static_cast<int64_t>(scalar)) : Json(scalar);
  json["attn_logit_softcapping"] = config.attention_softcap == 0 ? Json(nullptr) : Json(config.attention_softcap);
  json["final_logit_softcapping"] = config.final_softcap == 0 ? Json(nullptr) : Json(config.final_softcap);
  json["sliding_window"] = std::max<int64_t>(config.window, 1);
  write_layer_types(config, json);
  return json;
}

Json gemma2_to_json(const TransformerConfig& config) { return to_json(config, "gemma2", "Gemma2ForCausalLM"); }

Json gemma3_to_json(const TransformerConfig& config) {
  Json json = to_json(config, "gemma3_text", "Gemma3ForCausalLM");
  json["rope_local_base_freq"] = config.local_rotary_base;
  return json;
}

/// Folders store what the norms' weights are above 1, and have a norm behind attention under the name of Llama's before the MLP.
TensorNames folder_names(const TransformerConfig& config) {
  TensorNames names = llama_folder_names(config);
  row_of(names, "block{}.mlp_norm").tensor = "model.layers.{}.pre_feedforward_layernorm";
  const auto before_last_two = names.end() - 2;
  names.insert(before_last_two, {{"model.layers.{}.post_attention_layernorm", {"block{}.attention_post_norm"}},
                                 {"model.layers.{}.post_feedforward_layernorm", {"block{}.mlp_post_norm"}}});
  for (TensorPlace& row : names)
    if (row.parameters.front().ends_with("norm")) row.added = 1.0f;
  return names;
}

/// What files do not say: only the largest model of each generation divides by something else than its heads' width.
double gguf_attention_scale(const TransformerConfig& config, int64_t largest) {
  const int64_t divisor = config.layers == largest ? config.width / config.heads : config.head_width;
  return 1.0 / std::sqrt(static_cast<double>(divisor));
}

/// Of each `period` layers the last sees everything.
void set_local_layers(const GgufSettings& settings, int64_t period, TransformerConfig& config) {
  settings.only("attention.sliding_window_pattern", period);
  config.window = settings.size("attention.sliding_window");
  if (config.layers > 10000) return;  // which check_config refuses
  for (int64_t i = 0; i < config.layers; ++i) config.local_layers.push_back(i % period != period - 1);
}

TransformerConfig gemma2_from_gguf(const GgufFile& file) {
  const GgufSettings settings(file);
  TransformerConfig config = settings.common("attention.layer_norm_rms_epsilon");
  set_common(config);
  config.attention_softcap = settings.number_or("attn_logit_softcapping", 50.0);
  config.final_softcap = settings.number_or("final_logit_softcapping", 30.0);
  config.attention_scale = gguf_attention_scale(config, 46);
  set_local_layers(settings, 2, config);
  return config;
}

TransformerConfig gemma3_from_gguf(const GgufFile& file) {
  const GgufSettings settings(file);
  TransformerConfig config = settings.common("attention.layer_norm_rms_epsilon");
  set_common(config);
  config.query_key_norm = true;
  config.final_softcap = settings.number_or("final_logit_softcapping", 0);
  config.rotary_base = settings.number_or("rope.freq_base", 1e6);
  config.local_rotary_base = settings.number_or("rope.freq_base_swa", 10000.0);
  config.attention_scale = gguf_attention_scale(config, 62);
  set_local_layers(settings, 6, config);
  return config;
}

}  // namespace

Family gemma2() {
  return {.name = "gemma2",
          .from_json = gemma2_from_json,
          .folder_names = folder_names,
          .prefix = "model.",
          .ignored = {".rotary_emb.inv_freq", "lm_head.weight"},
          .to_json = gemma2_to_json,
          .architecture = "gemma2",
          .from_gguf = gemma2_from_gguf,
          .gguf_names = common_gguf_names};
}

Family gemma3() {
  Family family = gemma2();
  family.name = "gemma3_text";
  family.architecture = "gemma3";
  family.from_json = gemma3_from_json;
  family.to_json = gemma3_to_json;
  family.from_gguf = gemma3_from_gguf;
  return family;
}

}  // namespace sememe
