// OPT (Zhang et al. 2022); not the 350m, whose norms stand behind attention and MLP.

#include "sememe/base/error.h"
#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"

namespace sememe {
namespace {

TransformerConfig from_json(const Json& json, std::string_view where) {
  TransformerConfig config;
  config.norm = Norm::kLayer;
  config.positions = Positions::kLearned;
  config.position_offset = 2;  // rows that once stood for padding
  config.bias = true;
  config.vocabulary = size_member(json, "vocab_size", {}, where);
  config.context = size_member(json, "max_position_embeddings", {}, where);
  config.width = size_member(json, "hidden_size", {}, where);
  config.layers = size_member(json, "num_hidden_layers", {}, where);
  config.heads = config.key_value_heads = size_member(json, "num_attention_heads", {}, where);
  if (config.width % config.heads != 0)
    fail("{}: \"hidden_size\" ({}) is not a multiple of \"num_attention_heads\" ({})", where, config.width, config.heads);
  config.head_width = config.width / config.heads;
  config.feed_forward_width = size_member(json, "ffn_dim", {}, where);
  config.tied_head = json_member_or<bool>(json, "tie_word_embeddings", true, where);
  config.feed_forward = feed_forward_member(json, "activation_function", "relu", false, where);
  only(json, "word_embed_proj_dim", {config.width}, where);
  only(json, "do_layer_norm_before", {true}, where);
  only(json, "_remove_final_layer_norm", {false}, where);
  only(json, "enable_bias", {true}, where);
  only(json, "layer_norm_elementwise_affine", {true}, where);
  return config;
}

Json to_json(const TransformerConfig& config) {
  return {{"model_type", "opt"},
          {"architectures", {"OPTForCausalLM"}},
          {"vocab_size", config.vocabulary},
          {"max_position_embeddings", config.context},
          {"hidden_size", config.width},
          {"word_embed_proj_dim", config.width},
          {"num_hidden_layers", config.layers},
          {"num_attention_heads", config.heads},
          {"ffn_dim", config.feed_forward_width},
          {"activation_function", feed_forward_name(config.feed_forward)},
          {"do_layer_norm_before", true},
          {"enable_bias", true},
          {"tie_word_embeddings", config.tied_head}};
}

TensorNames folder_names(const TransformerConfig&) {
  return {{"model.decoder.embed_tokens", {"embedding"}},
          {"model.decoder.embed_positions", {"positions"}},
          {"model.decoder.layers.{}.self_attn_layer_norm", {"block{}.attention_norm"}},
          {"model.decoder.layers.{}.self_attn.q_proj", {"block{}.query"}},
          {"model.decoder.layers.{}.self_attn.k_proj", {"block{}.key"}},
          {"model.decoder.layers.{}.self_attn.v_proj", {"block{}.value"}},
          {"model.decoder.layers.{}.self_attn.out_proj", {"block{}.output"}},
          {"model.decoder.layers.{}.final_layer_norm", {"block{}.mlp_norm"}},
          {"model.decoder.layers.{}.fc1", {"block{}.up"}},
          {"model.decoder.layers.{}.fc2", {"block{}.down"}},
          {"model.decoder.final_layer_norm", {"norm"}},
          {"lm_head", {"head"}}};
}

}  // namespace

Family opt() {
  return {.name = "opt", .from_json = from_json, .folder_names = folder_names, .prefix = "model.", .ignored = {"lm_head.weight"}, .to_json = to_json};
}

}  // namespace sememe
