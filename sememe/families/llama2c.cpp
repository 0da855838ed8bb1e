// Checkpoints of llama2.c, which are Llama's and say nothing but their sizes.

#include "sememe/families/family_table.h"

namespace sememe {

TransformerConfig llama2c_config(const Llama2cFile& file) {
  const Llama2cSizes& sizes = file.sizes();
  TransformerConfig config;
  config.vocabulary = sizes.vocabulary;
  config.context = sizes.context;
  config.width = sizes.width;
  config.layers = sizes.layers;
  config.heads = sizes.heads;
  config.key_value_heads = sizes.key_value_heads;
  config.head_width = sizes.width / sizes.heads;
  config.feed_forward_width = sizes.hidden_width;
  config.tied_head = sizes.tied_head;
  return config;
}

TensorNames llama2c_names(const TransformerConfig& config) {
  const auto pairs = TensorPlace::Rows::kPairs;
  return {{"tok_embeddings", {"embedding"}},
          {"layers.{}.attention_norm", {"block{}.attention_norm"}},
          {.tensor = "layers.{}.attention.wq", .parameters = {"block{}.query"}, .rows = pairs, .heads = config.heads},
          {.tensor = "layers.{}.attention.wk", .parameters = {"block{}.key"}, .rows = pairs, .heads = config.key_value_heads},
          {"layers.{}.attention.wv", {"block{}.value"}},
          {"layers.{}.attention.wo", {"block{}.output"}},
          {"layers.{}.ffn_norm", {"block{}.mlp_norm"}},
          {"layers.{}.feed_forward.w1", {"block{}.gate"}},
          {"layers.{}.feed_forward.w2", {"block{}.down"}},
          {"layers.{}.feed_forward.w3", {"block{}.up"}},
          {"norm", {"norm"}},
          {"output", {"head"}}};
}

}  // namespace sememe
