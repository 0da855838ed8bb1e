#include "sememe/inference/core_neurons.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "sememe/base/random.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

TransformerConfig config_of(int64_t neurons, int64_t layers = 2) {
  TransformerConfig config;
  config.feed_forward_width = neurons, config.layers = layers;
  return config;
}

InputRows rows_of(std::vector<float>& values, int64_t tokens, const float* gate = nullptr, int64_t layer = 0) {
  const auto width = static_cast<int64_t>(values.size()) / tokens;
  return {layer, MatrixInput::kMlpDown, values.data(), tokens, width, width, gate};
}

TEST(CoreNeurons, AreThoseAmongATokensLargestPositiveActivations) {
  // Four, two and no positive ones: two on average, of which half is one.
  std::vector<float> values = {1, 4, -9, 2, 3, -1,  //
                               -1, -2, 5, -3, 6, -1,  //
                               -1, -1, -1, -1, -1, -1};
  CoreNeurons core(config_of(6), {.token_share = 0.5}, {0, 1}, 1);
  core.visit(rows_of(values, 3), 0, 3, 0, 1);
  EXPECT_EQ(core.counts(0), (std::vector<int32_t>{0, 1, 0, 0, 1, 0}));
  EXPECT_EQ(core.counts(1), std::vector<int32_t>(6));
  EXPECT_EQ(core.tokens(), 3);
  CoreNeurons own(config_of(6), {.token_share = 0.5, .own_number = true}, {0, 1}, 1);
  own.visit(rows_of(values, 3), 0, 3, 0, 1);
  EXPECT_EQ(own.counts(0), (std::vector<int32_t>{0, 1, 0, 0, 2, 0}));  // two of the first token, one of the second
}

TEST(CoreNeurons, OneIsTakenWhereTheShareIsLessThanOne) {
  std::vector<float> values = {0.5f, 2, -1, -1};
  CoreNeurons core(config_of(4), {.token_share = 0.1}, {0, 0}, 1);
  core.visit(rows_of(values, 1), 0, 1, 0, 1);
  EXPECT_EQ(core.counts(0), (std::vector<int32_t>{0, 1, 0, 0}));
}

TEST(CoreNeurons, CountsAreThoseOfSortingWhateverTheThreads) {
  constexpr int64_t kTokens = 37, kNeurons = 333;
  RandomStream stream(1, "core");
  std::vector<float> values(kTokens * kNeurons), gate(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(stream.normal()), gate[i] = static_cast<float>(stream.normal());
    if (stream.uniform() < 0.1) values[i] = 0.5f;  // some are equal
  }
  for (const RankBy rank_by : {RankBy::kProduct, RankBy::kGate, RankBy::kAbsoluteProduct})
    for (const bool own_number : {false, true}) {
      const auto value = [&](int64_t t, int64_t i) {
        const float product = values[t * kNeurons + i];
        return rank_by == RankBy::kProduct ? product : rank_by == RankBy::kGate ? gate[t * kNeurons + i] : std::abs(product);
      };
      std::vector<int64_t> positive(kTokens);
      double all = 0;
      for (int64_t t = 0; t < kTokens; ++t)
        for (int64_t i = 0; i < kNeurons; ++i) positive[t] += value(t, i) > 0;
      for (const int64_t count : positive) all += static_cast<double>(count);
      std::vector<int32_t> wanted(kNeurons);
      for (int64_t t = 0; t < kTokens; ++t) {
        std::vector<float> sorted;
        for (int64_t i = 0; i < kNeurons; ++i) sorted.push_back(value(t, i));
        std::sort(sorted.begin(), sorted.end(), std::greater<>());
        const auto number = static_cast<int64_t>(0.3 * (own_number ? static_cast<double>(positive[t]) : all / kTokens));
        for (int64_t i = 0; i < kNeurons; ++i) wanted[i] += value(t, i) > 0 && value(t, i) >= sorted[number - 1];
      }
      for (const int threads : {1, 2, 5}) {
        CoreNeurons core(config_of(kNeurons), {.token_share = 0.3, .own_number = own_number, .rank_by = rank_by}, {0, 0}, threads);
        for (int thread = 0; thread < threads; ++thread) {
          const Share share(kTokens, thread, threads);
          core.visit(rows_of(values, kTokens, gate.data()), share.begin, share.end, thread, threads);
        }
        EXPECT_EQ(core.counts(0), wanted) << threads << " threads";
        EXPECT_EQ(core.tokens(), kTokens);
      }
    }
}

TEST(CoreNeurons, EquallyFrequentOnesRankByTheirSumThenByNumber) {
  std::vector<float> values = {1, 3, 1, -1, 2, -1};
  CoreNeurons core(config_of(6), {.token_share = 1}, {0, 0}, 1);
  core.visit(rows_of(values, 1), 0, 1, 0, 1);
  EXPECT_EQ(core.ranking(0), (std::vector<int32_t>{1, 4, 0, 2}));
  EXPECT_EQ(core.sets(0.5)[0], (std::vector<int32_t>{0, 1, 4}));
  EXPECT_EQ(core.sets(1.0)[0], (std::vector<int32_t>{0, 1, 2, 4}));  // no more fired
}

TEST(CoreNeurons, ALayerInWhichNothingFiresKeepsAll) {
  std::vector<float> values(12, -1.0f);
  values[3] = std::numeric_limits<float>::quiet_NaN();
  CoreNeurons core(config_of(6), {}, {0, 1}, 1);
  core.visit(rows_of(values, 2), 0, 2, 0, 1);
  EXPECT_EQ(core.sets(0.4), NeuronSets(2));
}

TEST(CoreNeurons, ANewTextBeginsWithNothing) {
  std::vector<float> values = {1, -1};
  CoreNeurons core(config_of(2), {}, {0, 0}, 1);
  core.visit(rows_of(values, 1), 0, 1, 0, 1);
  core.clear();
  EXPECT_EQ(core.counts(0), std::vector<int32_t>(2));
  EXPECT_EQ(core.tokens(), 0);
}

TEST(CoreNeurons, TheMiddleLayersArePublishedOnesOf32AndFitAnyNumber) {
  EXPECT_EQ(middle_layers(config_of(8, 32)).first, 6);
  EXPECT_EQ(middle_layers(config_of(8, 32)).last, 26);
  for (int64_t layers = 1; layers < 100; ++layers) {
    const LayerRange range = middle_layers(config_of(8, layers));
    EXPECT_LE(0, range.first);
    EXPECT_LE(range.first, range.last);
    EXPECT_LT(range.last, layers);
  }
}

TEST(CoreNeurons, OptionsThatCannotBeAreRefused) {
  const auto message = [](CoreNeuronOptions options, LayerRange layers) { return error_from([&] { CoreNeurons(config_of(4), options, layers, 1); }); };
  EXPECT_TRUE(contains(message({.token_share = 0}, {0, 1}), {"share", "0"}));
  EXPECT_TRUE(contains(message({.token_share = 1.5}, {0, 1}), {"share", "1.5"}));
  EXPECT_TRUE(contains(message({}, {0, 2}), {"0 to 2", "0 to 1"}));
  EXPECT_TRUE(contains(message({}, {1, 0}), {"1 to 0"}));
  EXPECT_TRUE(contains(error_from([] { kept_of(0, 10); }), {"0"}));
  EXPECT_TRUE(contains(error_from([] { kept_of(1.1, 10); }), {"1.1"}));
  EXPECT_EQ(kept_of(0.01, 10), 1);
}

}  // namespace
}  // namespace sememe
