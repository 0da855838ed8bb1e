// Llama 1 to 3 and its like (SmolLM), and Mistral, whose layers see a window; its GGUF files are of architecture llama and see everything.

#include <utility>

#include "sememe/base/error.h"
#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"

namespace sememe {
namespace {

/// Of Llama and Mistral.
TransformerConfig read(const Json& json, std::string_view where) {
  TransformerConfig config = common_config(json, where);
  config.norm_epsilon = json_member_or<double>(json, "rms_norm_eps", 1e-6, where);
  config.feed_forward = feed_forward_member(json, "hidden_act", "silu", true, where);
  read_rotary(json, config, where);
  return config;
}

TransformerConfig from_json(const Json& json, std::string_view where) {
  TransformerConfig config = read(json, where);
  config.bias = json_member_or<bool>(json, "attention_bias", false, where);
  if (json_member_or<bool>(json, "mlp_bias", false, where) != config.bias)
    fail("{}: \"attention_bias\" and \"mlp_bias\" differ, which is not supported", where);
  only(json, "sliding_window", {}, where);
  return config;
}

TransformerConfig mistral_from_json(const Json& json, std::string_view where) {
  TransformerConfig config = read(json, where);
  only(json, "layer_types", {}, where);
  if (json.contains("sliding_window") && json.at("sliding_window").is_null()) return config;
  const int64_t window = size_member(json, "sliding_window", 4096, where);
  read_local_layers(json, window, [](int64_t) { return true; }, config, where);
  return config;
}

TransformerConfig from_gguf(const GgufFile& file) {
  const GgufSettings settings(file);
  const TransformerConfig config = settings.common("attention.layer_norm_rms_epsilon");
  settings.only("attention.sliding_window", 0);
  settings.only("rope.dimension_count", config.head_width);  // pairs of rows are those of whole heads
  return config;
}

TensorNames gguf_names(const TransformerConfig& config) {
  TensorNames names = common_gguf_names(config);
  for (const auto& [parameter, heads] : {std::pair{"block{}.query", config.heads}, {"block{}.key", config.key_value_heads}}) {
    row_of(names, parameter).rows = TensorPlace::Rows::kPairs;
    row_of(names, parameter).heads = heads;
  }
  return names;
}

}  // namespace

Json llama_to_json(const TransformerConfig& config) {
  Json json = {{"model_type", "llama"},
               {"architectures", {"LlamaForCausalLM"}},
               {"vocab_size", config.vocabulary},
               {"max_position_embeddings", config.context},
               {"hidden_size", config.width},
               {"num_hidden_layers", config.layers},
               {"num_attention_heads", config.heads},
               {"num_key_value_heads", config.key_value_heads},
               {"head_dim", config.head_width},
               {"intermediate_size", config.feed_forward_width},
               {"hidden_act", feed_forward_name(config.feed_forward)},
               {"rms_norm_eps", config.norm_epsilon},
               {"rope_theta", config.rotary_base},
               {"attention_bias", config.bias},
               {"mlp_bias", config.bias},
               {"tie_word_embeddings", config.tied_head}};
  const RotaryScaling& scaling = config.rotary_scaling;
  if (scaling.kind == RotaryScaling::Kind::kLinear) json["rope_scaling"] = {{"rope_type", "linear"}, {"factor", scaling.factor}};
  if (scaling.kind == RotaryScaling::Kind::kLlama3)
    json["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", scaling.factor},
                            {"low_freq_factor", scaling.low_turns},
                            {"high_freq_factor", scaling.high_turns},
                            {"original_max_position_embeddings", scaling.original_context}};
  if (scaling.kind == RotaryScaling::Kind::kYarn)
    json["rope_scaling"] = {{"rope_type", "yarn"},
                            {"factor", scaling.factor},
                            {"beta_slow", scaling.low_turns},
                            {"beta_fast", scaling.high_turns},
                            {"attention_factor", scaling.magnitude},
                            {"original_max_position_embeddings", scaling.original_context}};
  return json;
}

TensorNames llama_folder_names(const TransformerConfig&) {
  return {{"model.embed_tokens", {"embedding"}},
          {"model.layers.{}.input_layernorm", {"block{}.attention_norm"}},
          {"model.layers.{}.self_attn.q_proj", {"block{}.query"}},
          {"model.layers.{}.self_attn.k_proj", {"block{}.key"}},
          {"model.layers.{}.self_attn.v_proj", {"block{}.value"}},
          {"model.layers.{}.self_attn.q_norm", {"block{}.query_norm"}},
          {"model.layers.{}.self_attn.k_norm", {"block{}.key_norm"}},
          {"model.layers.{}.self_attn.o_proj", {"block{}.output"}},
          {"model.layers.{}.post_attention_layernorm", {"block{}.mlp_norm"}},
          {"model.layers.{}.mlp.gate_proj", {"block{}.gate"}},
          {"model.layers.{}.mlp.up_proj", {"block{}.up"}},
          {"model.layers.{}.mlp.down_proj", {"block{}.down"}},
          {"model.norm", {"norm"}},
          {"lm_head", {"head"}}};
}

namespace {

Json mistral_to_json(const TransformerConfig& config) {
  Json json = llama_to_json(config);
  json["model_type"] = "mistral";
  json["architectures"] = {"MistralForCausalLM"};
  json["sliding_window"] = config.window > 0 ? Json(config.window) : Json(nullptr);
  for (const char* const key : {"attention_bias", "mlp_bias"}) json.erase(key);
  return json;
}

}  // namespace

Family llama() {
  return {.name = "llama",
          .from_json = from_json,
          .folder_names = llama_folder_names,
          .prefix = "model.",
          .ignored = {".rotary_emb.inv_freq", "lm_head.weight"},
          .to_json = llama_to_json,
          .architecture = "llama",
          .from_gguf = from_gguf,
          .gguf_names = gguf_names};
}

Family mistral() {
  return {.name = "mistral",
          .from_json = mistral_from_json,
          .folder_names = llama_folder_names,
          .prefix = "model.",
          .ignored = {".rotary_emb.inv_freq", "lm_head.weight"},
          .to_json = mistral_to_json};
}

}  // namespace sememe
