#pragma once
// Small random transformers, a tokenizer, texts and folders, for the tests of this room.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/data/corpus.h"
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

/// Norms behind attention and MLP and of queries and keys, a window, bases of its own, softcaps, scales.
inline TransformerConfig small_gemma() {
  TransformerConfig config = small_llama();
  config.feed_forward = FeedForward::kGatedGelu;
  config.post_norms = config.query_key_norm = true;
  config.window = 5;
  config.local_layers = {true, false};
  config.local_rotary_base = 50;
  config.rotary_scaling.kind = RotaryScaling::Kind::kLinear;
  config.rotary_scaling.factor = 2;
  config.embedding_scale = 4;
  config.attention_scale = 0.7;
  config.attention_softcap = 2;
  config.final_softcap = 3;
  return config;
}

/// Attention and MLP beside each other, a part of each head rotated, biases, an untied head.
inline TransformerConfig small_neox() {
  TransformerConfig config = small_llama();
  config.key_value_heads = 4;
  config.norm = Norm::kLayer;
  config.feed_forward = FeedForward::kGeluErf;
  config.residual = Residual::kParallel;
  config.rotary_width = 2;
  config.bias = true;
  config.tied_head = false;
  return config;
}

/// As small_neox with one norm for both and a bias of the head; every layer local.
inline TransformerConfig small_phi() {
  TransformerConfig config = small_neox();
  config.residual = Residual::kParallelOneNorm;
  config.feed_forward = FeedForward::kRelu;
  config.head_bias = true;
  config.window = 3;
  config.local_layers = {true, true};
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

/// 256 bytes and end-of-text (id 0): each byte is one token.
inline Tokenizer byte_tokenizer() { return small_tokenizer(257); }

/// Documents in memory.
class Documents : public Corpus {
 public:
  explicit Documents(std::vector<std::string> texts) : texts_(std::move(texts)) {}
  std::optional<Document> next() override {
    if (next_ == texts_.size()) return std::nullopt;
    return Document{texts_[next_++], "memory"};
  }

 private:
  std::vector<std::string> texts_;
  size_t next_ = 0;
};

/// A folder of its own for each test, gone after it.
struct WithFolder : ::testing::Test {
  WithFolder() {
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
  }
  ~WithFolder() override { std::filesystem::remove_all(folder); }
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("sememe_language_" + std::to_string(::getpid()));
};

/// The message of the Error that `action` throws; none fails the test.
template <class Action>
std::string message_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

/// Expects the message to hold each of `words`.
inline void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << "no " << word << " in: " << message;
}

inline torch::Tensor some_tokens(int64_t rows, int64_t tokens, int64_t vocabulary) {
  return (torch::arange(rows * tokens, torch::kInt64) * 37 + 11).remainder(vocabulary).view({rows, tokens});
}

}  // namespace sememe::testing
