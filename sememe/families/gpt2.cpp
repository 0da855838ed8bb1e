// GPT-2 (Radford et al. 2019).

#include "sememe/base/error.h"
#include "sememe/families/config_json.h"
#include "sememe/families/family_table.h"
#include "sememe/families/gguf_settings.h"

namespace sememe {
namespace {

TransformerConfig from_json(const Json& json, std::string_view where) {
  TransformerConfig config;
  config.norm = Norm::kLayer;
  config.positions = Positions::kLearned;
  config.bias = true;
  config.vocabulary = size_member(json, "vocab_size", {}, where);
  config.context = size_member(json, "n_positions", size_member(json, "n_ctx", 1024, where), where);
  config.width = size_member(json, "n_embd", {}, where);
  config.layers = size_member(json, "n_layer", {}, where);
  config.heads = config.key_value_heads = size_member(json, "n_head", {}, where);
  if (config.width % config.heads != 0)
    fail("{}: \"n_embd\" ({}) is not a multiple of \"n_head\" ({})", where, config.width, config.heads);
  config.head_width = config.width / config.heads;
  config.feed_forward_width = size_member(json, "n_inner", 4 * config.width, where);
  config.norm_epsilon = json_member_or<double>(json, "layer_norm_epsilon", 1e-5, where);
  config.tied_head = json_member_or<bool>(json, "tie_word_embeddings", true, where);
  config.feed_forward = feed_forward_member(json, "activation_function", "gelu_new", false, where);
  only(json, "scale_attn_weights", {true}, where);
  only(json, "scale_attn_by_inverse_layer_idx", {false}, where);
  only(json, "add_cross_attention", {false}, where);
  return config;
}

TensorNames folder_names(const TransformerConfig&) {
  return {{"transformer.wte", {"embedding"}},
          {"transformer.wpe", {"positions"}},
          {"transformer.h.{}.ln_1", {"block{}.attention_norm"}},
          {.tensor = "transformer.h.{}.attn.c_attn", .parameters = {"block{}.query", "block{}.key", "block{}.value"}, .transposed = true},
          {.tensor = "transformer.h.{}.attn.c_proj", .parameters = {"block{}.output"}, .transposed = true},
          {"transformer.h.{}.ln_2", {"block{}.mlp_norm"}},
          {.tensor = "transformer.h.{}.mlp.c_fc", .parameters = {"block{}.up"}, .transposed = true},
          {.tensor = "transformer.h.{}.mlp.c_proj", .parameters = {"block{}.down"}, .transposed = true},
          {"transformer.ln_f", {"norm"}},
          {"lm_head", {"head"}}};
}

Json to_json(const TransformerConfig& config) {
  return {{"model_type", "gpt2"},
          {"architectures", {"GPT2LMHeadModel"}},
          {"vocab_size", config.vocabulary},
          {"n_positions", config.context},
          {"n_embd", config.width},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_inner", config.feed_forward_width},
          {"activation_function", feed_forward_name(config.feed_forward)},
          {"layer_norm_epsilon", config.norm_epsilon},
          {"tie_word_embeddings", config.tied_head}};
}

TransformerConfig from_gguf(const GgufFile& file) {
  TransformerConfig config = GgufSettings(file).common("attention.layer_norm_epsilon");
  config.norm = Norm::kLayer;
  config.positions = Positions::kLearned;
  config.bias = true;
  config.feed_forward = FeedForward::kGelu;
  return config;
}

TensorNames gguf_names(const TransformerConfig& config) {
  TensorNames names = common_gguf_names(config);
  fuse(names, kQueriesKeysValues, "blk.{}.attn_qkv");
  names.insert(names.begin(), {"position_embd", {"positions"}});
  return names;
}

}  // namespace

Family gpt2() {
  return {.name = "gpt2",
          .from_json = from_json,
          .folder_names = folder_names,
          .prefix = "transformer.",
          .ignored = {".attn.bias", ".attn.masked_bias", "lm_head.weight"},
          .to_json = to_json,
          .architecture = "gpt2",
          .from_gguf = from_gguf,
          .gguf_names = gguf_names};
}

}  // namespace sememe
