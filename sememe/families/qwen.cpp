// Qwen 2 and 2.5 (biases of queries, keys and values) and Qwen 3 (their norms instead).

#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"

namespace sememe {
namespace {

/// Of both.
TransformerConfig read(const Json& json, std::string_view where) {
  TransformerConfig config = common_config(json, where);
  config.key_value_heads = size_member(json, "num_key_value_heads", {}, where);
  config.norm_epsilon = json_member_or<double>(json, "rms_norm_eps", 1e-6, where);
  config.feed_forward = feed_forward_member(json, "hidden_act", "silu", true, where);
  read_rotary(json, config, where);
  const bool unlimited = json.contains("sliding_window") && json.at("sliding_window").is_null();
  if (!json_member_or<bool>(json, "use_sliding_window", false, where) || unlimited) return config;
  const int64_t window = size_member(json, "sliding_window", 4096, where);
  const auto first = json_member_or<int64_t>(json, "max_window_layers", 28, where);
  read_local_layers(json, window, [&](int64_t layer) { return layer >= first; }, config, where);
  return config;
}

TransformerConfig qwen2_from_json(const Json& json, std::string_view where) {
  TransformerConfig config = read(json, where);
  config.qkv_bias = true;
  return config;
}

TransformerConfig qwen3_from_json(const Json& json, std::string_view where) {
  TransformerConfig config = read(json, where);
  config.head_width = size_member(json, "head_dim", 128, where);
  config.query_key_norm = true;
  only(json, "attention_bias", {false}, where);
  return config;
}

/// Of both.
Json to_json(const TransformerConfig& config, const char* type, const char* architecture) {
  Json json = llama_to_json(config);
  json["model_type"] = type;
  json["architectures"] = {architecture};
  json["attention_bias"] = false;  // of the output's matrix
  json.erase("mlp_bias");
  write_layer_types(config, json);
  json["use_sliding_window"] = config.window > 0;
  json["sliding_window"] = config.window > 0 ? Json(config.window) : Json(nullptr);
  return json;
}

Json qwen2_to_json(const TransformerConfig& config) {
  Json json = to_json(config, "qwen2", "Qwen2ForCausalLM");
  json.erase("attention_bias");
  return json;
}

Json qwen3_to_json(const TransformerConfig& config) { return to_json(config, "qwen3", "Qwen3ForCausalLM"); }

TransformerConfig qwen2_from_gguf(const GgufFile& file) {
  TransformerConfig config = GgufSettings(file).common("attention.layer_norm_rms_epsilon");
  config.qkv_bias = true;
  return config;
}

TransformerConfig qwen3_from_gguf(const GgufFile& file) {
  TransformerConfig config = GgufSettings(file).common("attention.layer_norm_rms_epsilon");
  config.query_key_norm = true;
  return config;
}

}  // namespace

Family qwen2() {
  return {.name = "qwen2",
          .from_json = qwen2_from_json,
          .folder_names = llama_folder_names,
          .prefix = "model.",
          .ignored = {".rotary_emb.inv_freq", "lm_head.weight"},
          .to_json = qwen2_to_json,
          .architecture = "qwen2",
          .from_gguf = qwen2_from_gguf,
          .gguf_names = common_gguf_names};
}

Family qwen3() {
  Family family = qwen2();
  family.name = family.architecture = "qwen3";
  family.from_json = qwen3_from_json;
  family.to_json = qwen3_to_json;
  family.from_gguf = qwen3_from_gguf;
  return family;
}

}  // namespace sememe
