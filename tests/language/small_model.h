#pragma once
// Small random transformers and a tokenizer, for the tests of this room.

#include <memory>
#include <string>
#include <vector>

#include "sememe/language/transformer.h"
#include "sememe/text/tokenizer.h"

namespace sememe::testing {

inline TransformerConfig small_llama() {
  TransformerConfig config;
  config.vocabulary = 300;
  config.context = 24;
  config.width = 16;
  config.layers = 2;
  config.heads = 4;
  config.key_value_heads = 2;
  config.head_width = 4;
  config.feed_forward_width = 20;
  return config;
}

inline TransformerConfig small_gpt2() {
  TransformerConfig config = small_llama();
  config.key_value_heads = 4;
  config.norm = Norm::kLayer;
  config.positions = Positions::kLearned;
  config.feed_forward = FeedForward::kGelu;
  config.bias = true;
  return config;
}

inline std::shared_ptr<Transformer> small_transformer(const TransformerConfig& config, uint64_t seed = 1) {
  auto network = std::make_shared<Transformer>(config);
  network->initialize(seed);
  return network;
}

/// 256 bytes, end-of-text and what merges a sentence gives.
inline Tokenizer small_tokenizer(int64_t vocabulary = 270) {
  std::vector<std::string> texts(20, "the cat sat on the mat and the dog sat on the cat");
  size_t next = 0;
  return Tokenizer::train(
      [&]() -> std::optional<std::string> { return next < texts.size() ? std::optional(texts[next++]) : std::nullopt; },
      vocabulary);
}

inline torch::Tensor some_tokens(int64_t rows, int64_t tokens, int64_t vocabulary) {
  return (torch::arange(rows * tokens, torch::kInt64) * 37 + 11).remainder(vocabulary).view({rows, tokens});
}

}  // namespace sememe::testing
