// GPT-NeoX and Pythia (Black et al. 2022; Biderman et al. 2023).

#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"

namespace sememe {
namespace {

Residual residual(bool parallel) { return parallel ? Residual::kParallel : Residual::kSequential; }

/// What files of either kind need not say.
void set_common(TransformerConfig& config) {
  config.norm = Norm::kLayer;
  config.bias = true;
  config.feed_forward = FeedForward::kGeluErf;
}

TransformerConfig from_json(const Json& json, std::string_view where) {
  TransformerConfig config = common_config(json, where);
  set_common(config);
  only(json, "num_key_value_heads", {config.heads}, where);
  config.norm_epsilon = json_member_or<double>(json, "layer_norm_eps", 1e-5, where);
  config.feed_forward = feed_forward_member(json, "hidden_act", "gelu", false, where);
  config.residual = residual(json_member_or<bool>(json, "use_parallel_residual", true, where));
  only(json, "attention_bias", {true}, where);
  read_rotary(json, config, where, "rotary_emb_base", "rotary_pct", 0.25);
  return config;
}

Json to_json(const TransformerConfig& config) {
  return {{"model_type", "gpt_neox"},
          {"architectures", {"GPTNeoXForCausalLM"}},
          {"vocab_size", config.vocabulary},
          {"max_position_embeddings", config.context},
          {"hidden_size", config.width},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"intermediate_size", config.feed_forward_width},
          {"hidden_act", feed_forward_name(config.feed_forward)},
          {"layer_norm_eps", config.norm_epsilon},
          {"rotary_emb_base", config.rotary_base},
          {"rotary_pct", rotated_part(config)},
          {"use_parallel_residual", config.residual == Residual::kParallel},
          {"attention_bias", true},
          {"tie_word_embeddings", config.tied_head}};
}

TensorNames folder_names(const TransformerConfig& config) {
  return {{"gpt_neox.embed_in", {"embedding"}},
          {"gpt_neox.layers.{}.input_layernorm", {"block{}.attention_norm"}},
          {.tensor = "gpt_neox.layers.{}.attention.query_key_value",
           .parameters = {"block{}.query", "block{}.key", "block{}.value"},
           .rows = TensorPlace::Rows::kByHead,
           .heads = config.heads},
          {"gpt_neox.layers.{}.attention.dense", {"block{}.output"}},
          {"gpt_neox.layers.{}.post_attention_layernorm", {"block{}.mlp_norm"}},
          {"gpt_neox.layers.{}.mlp.dense_h_to_4h", {"block{}.up"}},
          {"gpt_neox.layers.{}.mlp.dense_4h_to_h", {"block{}.down"}},
          {"gpt_neox.final_layer_norm", {"norm"}},
          {"embed_out", {"head"}}};
}

TransformerConfig from_gguf(const GgufFile& file) {
  const GgufSettings settings(file);
  TransformerConfig config = settings.common("attention.layer_norm_epsilon");
  set_common(config);
  config.residual = residual(settings.flag_or("use_parallel_residual", true));
  return config;
}

/// There the fused rows are no longer by head.
TensorNames gguf_names(const TransformerConfig& config) {
  TensorNames names = common_gguf_names(config);
  row_of(names, "block{}.query") = {"blk.{}.attn_qkv", {"block{}.query", "block{}.key", "block{}.value"}};
  std::erase_if(names, [](const TensorPlace& row) {
    const std::string& first = row.parameters.front();
    return first == "block{}.key" || first == "block{}.value";
  });
  return names;
}

}  // namespace

Family gpt_neox() {
  return {.name = "gpt_neox",
          .from_json = from_json,
          .folder_names = folder_names,
          .prefix = "gpt_neox.",
          .ignored = {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq", "embed_out.weight"},
          .to_json = to_json,
          .architecture = "gptneox",
          .from_gguf = from_gguf,
          .gguf_names = gguf_names};
}

}  // namespace sememe
