#include "sememe/inference/threshold_search.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sememe/base/files.h"
#include "sememe/inference/neuron_profile.h"
#include "sememe/inference/sparse_decoder.h"
#include "sememe/inference/token_policies.h"
#include "tests/formats/error_text.h"
#include "tests/formats/scratch_path.h"
#include "tests/inference/small_gguf.h"

namespace sememe {
namespace {

/// A block's output.
struct Output : RowVisitor {
  size_t site;
  std::vector<float> rows;
  bool wants(size_t asked) const override { return asked == site; }
  void visit(size_t, float* values, int64_t tokens, int64_t width) override { rows.insert(rows.end(), values, values + tokens * width); }
};

class ThresholdSearch : public testing::Test {
 protected:
  ThresholdSearch()
      : file_({.type = GgmlType::kQ8_0, .layers = 2, .width = 64, .feed_forward = 96}), engine_(file_.path(), 2), texts_(small_texts(8, 20)),
        profile_(make_profile(engine_, texts_, {})), paths_(search_thresholds(engine_, profile_, texts_, options_)) {}

  /// Squared error of the second block's output with these shares of its inputs at zero.
  double error_of(const InputShares& shares) {
    std::vector<std::array<float, kMatrixInputs>> thresholds(2);
    for (int i = 0; i < kMatrixInputs; ++i) thresholds[1][i] = shares[i] > 0 ? NeuronProfile::quantile(profile_.inputs[1][i], shares[i]) : 0.0f;
    InputThresholds zeros(thresholds, {1, 1});
    const std::vector<float> exact = output(nullptr), found = output(&zeros);
    double error = 0;
    for (size_t i = 0; i < exact.size(); ++i) error += (static_cast<double>(found[i]) - exact[i]) * (static_cast<double>(found[i]) - exact[i]);
    return error;
  }
  std::vector<float> output(InputVisitor* inputs) {
    Output output;
    output.site = 10;  // blocks.1.output
    EXPECT_EQ(engine_.sites()[output.site].name, "blocks.1.output");
    for (size_t i = 0; i < 3; ++i) {  // of which the search runs 50 tokens
      TokenCache cache(engine_.config());
      const TokenRun run{std::span(texts_[i]).first(i == 2 ? 10 : 20), &cache};
      engine_.forward({&run, 1}, LogitsOf::kLastTokens, {.sites = &output, .inputs = inputs});
    }
    return output.rows;
  }

  ThresholdSearchOptions options_{.step = 0.1, .tokens = 50};
  SmallGgufFile file_;
  QuantizedTransformer engine_;
  std::vector<std::vector<int32_t>> texts_;
  NeuronProfile profile_;
  std::vector<std::vector<InputShares>> paths_;
};

TEST_F(ThresholdSearch, EachPointIsAStepOfTheBlocksWeightsFurther) {
  ASSERT_EQ(paths_.size(), 2u);
  for (const std::vector<InputShares>& path : paths_) {
    ASSERT_GE(path.size(), 5u);
    EXPECT_EQ(path[0], InputShares{});
    for (size_t i = 1; i < path.size(); ++i) {
      EXPECT_NEAR(share_of_block(engine_.config(), path[i]), 0.1 * static_cast<double>(i), 1e-5);
      int raised = 0;
      for (int input = 0; input < kMatrixInputs; ++input) {
        EXPECT_GE(path[i][input], path[i - 1][input]);
        EXPECT_LE(path[i][input], 1.0f);
        raised += path[i][input] > path[i - 1][input];
      }
      EXPECT_EQ(raised, 1);
    }
  }
}

TEST_F(ThresholdSearch, TheInputThatCostsLeastIsRaised) {
  const TransformerConfig& config = engine_.config();
  const double sizes[] = {static_cast<double>(config.width * (config.heads + 2 * config.key_value_heads) * config.head_width),
                          static_cast<double>(config.width * config.heads * config.head_width),
                          static_cast<double>(2 * config.width * config.feed_forward_width),
                          static_cast<double>(config.width * config.feed_forward_width)};
  const double all = sizes[0] + sizes[1] + sizes[2] + sizes[3];
  for (size_t point = 1; point < 5; ++point) {
    const double chosen = error_of(paths_[1][point]);
    for (int input = 0; input < kMatrixInputs; ++input) {
      InputShares other = paths_[1][point - 1];
      other[input] += static_cast<float>(0.1 * all / sizes[input]);
      if (other[input] <= 1.0f) EXPECT_GE(error_of(other), chosen * (1 - 1e-9)) << "point " << point << ", input " << input;
    }
  }
}

TEST_F(ThresholdSearch, APointIsTheFirstThatReachesAShare) {
  const std::span<const InputShares> path = paths_[0];
  EXPECT_EQ(&point_at(engine_.config(), path, 0.0), &path[0]);
  EXPECT_EQ(&point_at(engine_.config(), path, 0.1), &path[1]);
  EXPECT_EQ(&point_at(engine_.config(), path, 0.11), &path[2]);
  EXPECT_EQ(&point_at(engine_.config(), path, 1.0), &path.back());
}

TEST_F(ThresholdSearch, IsKeptWithTheProfileAndFollowedByThePolicy) {
  const ScratchPath folder("profile");
  const auto logits = [&](const NeuronProfile& profile) {
    SparsityOptions options;
    options.policy = "teal", options.keep = 0.5, options.layers = LayerRange{0, 1};
    SparseDecoder decoder(engine_, options, std::make_shared<const NeuronProfile>(profile));
    TokenCache cache(engine_.config());
    const TokenRun prompt{std::span(texts_[0]).first(10), &cache}, next{std::span(texts_[0]).subspan(10), &cache};
    decoder.read({&prompt, 1});
    const auto found = decoder.decode({&next, 1});
    return std::vector<float>(found.begin(), found.end());
  };
  const std::vector<float> uniform = logits(profile_);
  profile_.input_paths = paths_;
  profile_.save(folder.path());
  const NeuronProfile loaded = NeuronProfile::load(folder.path(), engine_);
  EXPECT_EQ(loaded.input_paths, paths_);
  EXPECT_EQ(logits(loaded), logits(profile_));
  EXPECT_NE(logits(loaded), uniform);
  profile_.input_paths[1][1][2] = 1.5f;
  profile_.save(folder.path());
  EXPECT_TRUE(contains(error_from([&] { NeuronProfile::load(folder.path(), engine_); }), {"input_paths.1", "1.5", "no share"}));
}

TEST_F(ThresholdSearch, RefusesWhatItCannotSearch) {
  EXPECT_TRUE(contains(error_from([&] { search_thresholds(engine_, profile_, texts_, {.step = 0}); }), {"step", "0"}));
  EXPECT_TRUE(contains(error_from([&] { search_thresholds(engine_, profile_, texts_, {.furthest = 1}); }), {"furthest", "1"}));
  EXPECT_TRUE(contains(error_from([&] { search_thresholds(engine_, profile_, {}, {}); }), {"no text"}));
}

}  // namespace
}  // namespace sememe
