#include "sememe/features/labelled_tokens.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/features/site_visitors.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

TEST(LabelTokens, EachTokenHasTheRowTheModelGivesItInItsOwnSentence) {
  set_quiet(true);
  const LanguageModel model = small_language_model();
  const std::vector<std::string> sentences = {"the cat sat", "a dog ran up the mat"};
  const std::vector<int64_t> labels = {1, 0};
  const LabelledTokens tokens = label_tokens(model, sentences, labels, "blocks.0.output");
  const std::vector<int32_t> ids = model.tokenizer.encode(sentences[1]);
  ASSERT_EQ(tokens.offsets.size(), 3u);
  EXPECT_EQ(tokens.offsets[2], tokens.tokens());
  EXPECT_EQ(tokens.activations.size(0), tokens.tokens());
  EXPECT_EQ(std::vector<int32_t>(tokens.ids.begin() + tokens.offsets[1], tokens.ids.end()), ids);
  EXPECT_EQ(tokens.labels.front(), 1);
  EXPECT_EQ(tokens.labels.back(), 0);
  EXPECT_EQ(tokens.sentences.back(), 1);
  std::vector<int64_t> inputs = {model.tokenizer.end_of_text()};
  inputs.insert(inputs.end(), ids.begin(), ids.end());
  RecordSite record("blocks.0.output", true);
  const torch::NoGradGuard no_grad;
  model.network->forward({torch::tensor(inputs, torch::kInt64).unsqueeze(0), {}}, record);
  EXPECT_TRUE(torch::allclose(tokens.activations.slice(0, tokens.offsets[1]), record.value()[0].narrow(0, 1, static_cast<int64_t>(ids.size()))));
  EXPECT_THROW(label_tokens(model, sentences, labels, "nowhere"), UsageError);
  const std::vector<std::string> empty = {"the cat", ""};
  EXPECT_THROW(label_tokens(model, empty, labels, "blocks.0.output"), Error);
}

TEST(LeadingLabelShares, CountTheStrongestTokensOnly) {
  const std::vector<int64_t> labels = {0, 1, 1, 0, 2};
  const std::vector<double> shares = leading_label_shares(torch::tensor({5.0f, 4.0f, 3.0f, 2.0f, 1.0f}), labels, 3, 4);
  EXPECT_EQ(shares, (std::vector<double>{0.5, 0.5, 0.0}));
}

TEST(LeadingLabelShares, SayNothingWhereTooFewTokensArePositive) {
  const std::vector<int64_t> labels = {0, 1, 1};
  EXPECT_EQ(leading_label_shares(torch::tensor({1.0f, 0.0f, -1.0f}), labels, 2, 2), (std::vector<double>{0.0, 0.0}));
  EXPECT_EQ(leading_label_shares(torch::tensor({1.0f, 1.0f, 1.0f}), labels, 2, 4), (std::vector<double>{0.0, 0.0}));
}

TEST(ChancePurity, IsTheShareItselfForOneLabelAndAboveAnEqualShareForSeveral) {
  const std::vector<int64_t> one(40, 0);
  EXPECT_DOUBLE_EQ(chance_purity(one, 1, 1), 1.0);
  // Of 2 tokens drawn without replacement from 2 + 2, both agree with probability 1/3: the mean share is 1/3 + 2/3 / 2.
  const std::vector<int64_t> two = {0, 0, 1, 1};
  EXPECT_NEAR(chance_purity(two, 2, 1, 2, 20000), 2.0 / 3.0, 0.01);
  EXPECT_THROW(chance_purity(two, 2, 1, 5), Error);
}

TEST(SentenceScores, AreTheLargestCosinesOfEachSentence) {
  LabelledTokens tokens;
  tokens.activations = torch::tensor({{0.0f, 2.0f}, {3.0f, 4.0f}, {0.0f, 0.0f}, {-1.0f, 0.0f}});
  tokens.offsets = {0, 3, 4};
  const torch::Tensor scores = sentence_scores(tokens, torch::tensor({{2.0f, 0.0f}, {0.0f, 1.0f}}));
  EXPECT_TRUE(torch::allclose(scores, torch::tensor({{0.6f, 1.0f}, {-1.0f, 0.0f}})));
}

TEST(DetectionScore, IsTheLogOfTheRatioOfMeans) {
  const std::vector<double> activating = {0.6, 0.2}, neutral = {0.1, 0.3}, opposite = {-0.5, -0.1};
  EXPECT_NEAR(detection_score(activating, neutral), std::log(2.0), 1e-12);
  EXPECT_NEAR(detection_score(opposite, neutral), std::log(1e-6 / 0.2), 1e-9);
  EXPECT_THROW(detection_score({}, neutral), Error);
}

}  // namespace
}  // namespace sememe
