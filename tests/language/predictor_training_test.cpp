#include "sememe/language/predictor_training.h"

#include <gtest/gtest.h>

#include <mutex>

#include "sememe/inference/sparse_decoder.h"
#include "sememe/language/language_model.h"
#include "tests/formats/error_text.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

std::vector<std::vector<int32_t>> some_texts(int64_t count, int32_t first) {
  std::vector<std::vector<int32_t>> texts;
  for (int64_t i = 0; i < count; ++i) {
    texts.emplace_back();
    for (int32_t t = 0; t < 30; ++t) texts.back().push_back(static_cast<int32_t>((first + 13 * i + (i % 7 + 1) * t) % 200));
  }
  return texts;
}

/// How often a predictor says right which neurons fire, and how often each does.
struct Judge : InputVisitor {
  const std::vector<NeuronPredictor>* predictors;
  int64_t layer, right = 0, all = 0;
  std::vector<int64_t> fires;
  std::mutex mutex;
  bool wants(int64_t of, MatrixInput input) const override { return of == layer && input == MatrixInput::kMlpDown; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int, int) override {
    const std::lock_guard lock(mutex);
    fires.resize(rows.width);
    std::vector<float> hidden(rows.mlp_width + 16), logits(rows.width + 16);
    for (int64_t t = first; t < last; ++t) {
      (*predictors)[layer].predict(rows.mlp_input + t * rows.mlp_width, hidden.data(), logits.data());
      for (int64_t i = 0; i < rows.width; ++i) {
        const bool fired = rows.values[t * rows.stride + i] > 0;
        right += (logits[i] > 0) == fired, fires[i] += fired, ++all;
      }
    }
  }
};

struct PredictorTraining : testing::WithFolder {
  PredictorTraining() {
    TransformerConfig config;
    config.vocabulary = 270, config.context = 32, config.width = 32, config.layers = 2, config.heads = config.key_value_heads = 2, config.head_width = 16;
    config.feed_forward_width = 64, config.feed_forward = FeedForward::kGatedRelu;
    LanguageModel{testing::small_transformer(config), testing::small_tokenizer(), {}}.save(folder / "model");
  }
};

TEST_F(PredictorTraining, PredictorsKnowMoreThanHowOftenEachNeuronFires) {
  QuantizedTransformer engine(folder / "model", 2);
  const std::vector<NeuronPredictor> predictors = train_predictors(engine, some_texts(300, 0), {.rank = 16, .learning_rate = 1e-2});
  ASSERT_EQ(predictors.size(), 2u);
  for (int64_t layer = 0; layer < 2; ++layer) {
    Judge judge;
    judge.predictors = &predictors, judge.layer = layer;
    for (const std::vector<int32_t>& ids : some_texts(20, 5)) {
      TokenCache cache(engine.config());
      const TokenRun run{ids, &cache};
      engine.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &judge});
    }
    int64_t always = 0;  // right by saying of each neuron what is so most often
    const int64_t tokens = judge.all / 64;
    for (const int64_t count : judge.fires) always += std::max(count, tokens - count);
    EXPECT_LT(static_cast<double>(judge.all - judge.right), 0.8 * static_cast<double>(judge.all - always)) << layer;
  }
}

TEST_F(PredictorTraining, APredictionIsWhatDejaVuAndPowerInferKeep) {
  QuantizedTransformer engine(folder / "model", 2);
  const std::vector<std::vector<int32_t>> texts = some_texts(40, 0);
  NeuronProfile profile = make_profile(engine, texts, {});
  profile.predictors = std::make_shared<const std::vector<NeuronPredictor>>(train_predictors(engine, texts, {.rank = 8}));
  profile.save(folder / "profile");
  const auto loaded = std::make_shared<const NeuronProfile>(NeuronProfile::load(folder / "profile", engine));
  for (const char* policy : {"dejavu", "powerinfer"}) {
    SparsityOptions options;
    options.policy = policy, options.layers = LayerRange{0, 1};
    SparseDecoder decoder(engine, options, loaded);
    TokenCache cache(engine.config());
    const TokenRun prompt{std::span(texts[0]).first(20), &cache}, next{std::span(texts[0]).subspan(20), &cache};
    decoder.read({&prompt, 1});
    const std::span<const float> found = decoder.decode({&next, 1});
    const std::vector<float> sparse(found.begin(), found.end());
    cache.set_tokens(20);
    const std::span<const float> dense = engine.forward({&next, 1});
    EXPECT_NE(sparse, std::vector<float>(dense.begin(), dense.end())) << policy;
  }
}

TEST_F(PredictorTraining, OptionsThatCannotBeAreRefused) {
  QuantizedTransformer engine(folder / "model", 1);
  EXPECT_TRUE(contains(error_from([&] { train_predictors(engine, some_texts(1, 0), {.rank = 33}); }), {"rank", "33", "32"}));
  EXPECT_TRUE(contains(error_from([&] { train_predictors(engine, {}, {.rank = 8}); }), {"no text"}));
}

}  // namespace
}  // namespace sememe
