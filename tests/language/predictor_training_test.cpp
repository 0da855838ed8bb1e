#include "sememe/language/predictor_training.h"

#include <gtest/gtest.h>

#include <algorithm>
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

/// Sets all but some neurons of every layer to zero.
struct Zeroing : InputVisitor {
  std::vector<int32_t> kept;
  bool wants(int64_t, MatrixInput input) const override { return input == MatrixInput::kMlpDown; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int, int) override {
    for (int64_t t = first; t < last; ++t)
      for (int64_t i = 0; i < rows.width; ++i)
        if (!std::binary_search(kept.begin(), kept.end(), static_cast<int32_t>(i))) rows.values[t * rows.stride + i] = 0.0f;
  }
};

struct KeptNeurons : testing::WithFolder {};

TEST_F(KeptNeurons, OfModelsWithBiasesAndWithoutGatesAloneGiveTheBitsOfAllWithTheOthersAtZero) {
  TransformerConfig with_biases;
  with_biases.vocabulary = 270, with_biases.context = 32, with_biases.width = 32, with_biases.layers = 2;
  with_biases.heads = with_biases.key_value_heads = 2, with_biases.head_width = 16, with_biases.feed_forward_width = 64, with_biases.bias = true;
  TransformerConfig without_gate = with_biases;
  without_gate.norm = Norm::kLayer, without_gate.positions = Positions::kLearned, without_gate.feed_forward = FeedForward::kGelu;
  for (const TransformerConfig& config : {with_biases, without_gate}) {
    const auto network = testing::small_transformer(config);
    const torch::NoGradGuard no_grad;
    for (const torch::Tensor& parameter : network->parameters())  // biases begin as zeros
      if (parameter.dim() == 1) parameter.add_(0.1 * torch::linspace(-1, 1, parameter.numel()));
    const auto place = folder / (config.bias && is_gated(config) ? "gated" : "plain");
    LanguageModel{network, testing::small_tokenizer(), {}}.save(place);
    QuantizedTransformer engine(place, 2);
    Zeroing zeroing;
    for (int32_t i = 0; i < 64; i += 3) zeroing.kept.push_back(i);
    const std::unique_ptr<NeuronSubset> subset = engine.keep(NeuronSets(2, zeroing.kept));
    const std::vector<int32_t> ids = {5, 9, 200, 3, 77};
    TokenCache zeroed(engine.config()), alone(engine.config());
    for (const int32_t& id : ids) {
      const TokenRun first{{&id, 1}, &zeroed}, second{{&id, 1}, &alone};
      const std::span<const float> logits = engine.forward({&first, 1}, LogitsOf::kLastTokens, {.inputs = &zeroing});
      const std::vector<float> wanted(logits.begin(), logits.end());
      const std::span<const float> found = engine.forward({&second, 1}, LogitsOf::kLastTokens, {.subset = subset.get()});
      EXPECT_EQ(std::vector<float>(found.begin(), found.end()), wanted);
    }
  }
}

}  // namespace
}  // namespace sememe
