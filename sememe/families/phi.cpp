// Phi 1, 1.5 and 2 (Gunasekar et al. 2023), and Phi 3, which is Llama's kind with fused matrices.

#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"

namespace sememe {
namespace {

const std::vector<std::string> kGateAndUp = {"block{}.gate", "block{}.up"};

/// What files of either kind need not say.
void set_common(TransformerConfig& config) {
  config.norm = Norm::kLayer;
  config.residual = Residual::kParallelOneNorm;
  config.feed_forward = FeedForward::kGelu;
  config.bias = config.head_bias = true;
}

TransformerConfig from_json(const Json& json, std::string_view where) {
  TransformerConfig config = common_config(json, where);
  set_common(config);
  config.norm_epsilon = json_member_or<double>(json, "layer_norm_eps", 1e-5, where);
  config.feed_forward = feed_forward_member(json, "hidden_act", "gelu_new", false, where);
  only(json, "qk_layernorm", {false}, where);
  read_rotary(json, config, where, "rope_theta", "partial_rotary_factor", 0.5);
  return config;
}

Json to_json(const TransformerConfig& config) {
  return {{"model_type", "phi"},
          {"architectures", {"PhiForCausalLM"}},
          {"vocab_size", config.vocabulary},
          {"max_position_embeddings", config.context},
          {"hidden_size", config.width},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"num_key_value_heads", config.key_value_heads},
          {"intermediate_size", config.feed_forward_width},
          {"hidden_act", feed_forward_name(config.feed_forward)},
          {"layer_norm_eps", config.norm_epsilon},
          {"rope_theta", config.rotary_base},
          {"partial_rotary_factor", rotated_part(config)},
          {"qk_layernorm", false},
          {"tie_word_embeddings", config.tied_head}};
}

TensorNames folder_names(const TransformerConfig&) {
  return {{"model.embed_tokens", {"embedding"}},
          {"model.layers.{}.input_layernorm", {"block{}.attention_norm"}},
          {"model.layers.{}.self_attn.q_proj", {"block{}.query"}},
          {"model.layers.{}.self_attn.k_proj", {"block{}.key"}},
          {"model.layers.{}.self_attn.v_proj", {"block{}.value"}},
          {"model.layers.{}.self_attn.dense", {"block{}.output"}},
          {"model.layers.{}.mlp.fc1", {"block{}.up"}},
          {"model.layers.{}.mlp.fc2", {"block{}.down"}},
          {"model.final_layernorm", {"norm"}},
          {"lm_head", {"head"}}};
}

TransformerConfig from_gguf(const GgufFile& file) {
  TransformerConfig config = GgufSettings(file).common("attention.layer_norm_epsilon");
  set_common(config);
  return config;
}

TransformerConfig phi3_from_json(const Json& json, std::string_view where) {
  TransformerConfig config = common_config(json, where);
  config.norm_epsilon = json_member_or<double>(json, "rms_norm_eps", 1e-5, where);
  config.feed_forward = feed_forward_member(json, "hidden_act", "silu", true, where);
  only(json, "attention_bias", {false}, where);
  read_rotary(json, config, where);
  if (!json.contains("sliding_window") || json.at("sliding_window").is_null()) return config;
  const int64_t window = size_member(json, "sliding_window", {}, where);
  read_local_layers(json, window, [](int64_t) { return true; }, config, where);
  return config;
}

TensorNames phi3_folder_names(const TransformerConfig& config) {
  TensorNames names = llama_folder_names(config);
  fuse(names, kQueriesKeysValues, "model.layers.{}.self_attn.qkv_proj");
  fuse(names, kGateAndUp, "model.layers.{}.mlp.gate_up_proj");
  return names;
}

TransformerConfig phi3_from_gguf(const GgufFile& file) {
  const GgufSettings settings(file);
  TransformerConfig config = settings.common("attention.layer_norm_rms_epsilon");
  if (settings.number_or("attention.sliding_window", 0) == 0) return config;
  config.window = settings.size("attention.sliding_window");
  config.local_layers.assign(config.layers, true);
  return config;
}

TensorNames phi3_gguf_names(const TransformerConfig& config) {
  TensorNames names = common_gguf_names(config);
  fuse(names, kQueriesKeysValues, "blk.{}.attn_qkv");
  fuse(names, kGateAndUp, "blk.{}.ffn_up");
  return names;
}

}  // namespace

Family phi() {
  return {.name = "phi",
          .from_json = from_json,
          .folder_names = folder_names,
          .prefix = "model.",
          .ignored = {".rotary_emb.inv_freq", "lm_head.weight"},
          .to_json = to_json,
          .architecture = "phi2",
          .from_gguf = from_gguf,
          .gguf_names = common_gguf_names};
}

Family phi3() {
  return {.name = "phi3",
          .from_json = phi3_from_json,
          .folder_names = phi3_folder_names,
          .prefix = "model.",
          .ignored = {".rotary_emb.inv_freq", "lm_head.weight"},
          .architecture = "phi3",
          .from_gguf = phi3_from_gguf,
          .gguf_names = phi3_gguf_names};
}

}  // namespace sememe
