#include "sememe/inference/token_policies.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/formats/error_text.h"

namespace sememe {
namespace {

InputRows rows_of(std::vector<float>& values, const float* gate = nullptr, const float* input = nullptr, int64_t input_width = 0) {
  const auto width = static_cast<int64_t>(values.size());
  return {0, MatrixInput::kMlpDown, values.data(), 1, width, width, gate, input, input_width};
}

TEST(LargestActivations, KeepsTheLargestOfEachToken) {
  std::vector<float> values = {1, -5, 3, -2};
  LargestActivations policy(0.5, {0, 0});
  EXPECT_TRUE(policy.wants(0, MatrixInput::kMlpDown));
  EXPECT_FALSE(policy.wants(1, MatrixInput::kMlpDown));
  EXPECT_FALSE(policy.wants(0, MatrixInput::kMlp));
  policy.visit(rows_of(values), 0, 1, 0, 1);
  EXPECT_EQ(values, (std::vector<float>{0, -5, 3, 0}));
}

TEST(LargestActivations, ANumberThatIsNoneDoesNotUpsetTheOrder) {
  std::vector<float> values(100, NAN);
  for (size_t i = 0; i < 40; ++i) values[2 * i] = static_cast<float>(i + 1);
  LargestActivations(0.1, {0, 0}).visit(rows_of(values), 0, 1, 0, 1);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(values[2 * i], i < 30 ? 0.0f : static_cast<float>(i + 1)) << i;
}

TEST(GateThresholds, KeepsWhatTheGateLetsThrough) {
  // SiLU of 2, -2, 0.1, -0.1: 1.76, -0.24, 0.05, -0.05.
  std::vector<float> values = {1, 2, 3, 4};
  const std::vector<float> gate = {2, -2, 0.1f, -0.1f};
  GateThresholds(FeedForward::kGatedSilu, {0.1f}, {0, 0}).visit(rows_of(values, gate.data()), 0, 1, 0, 1);
  EXPECT_EQ(values, (std::vector<float>{1, 2, 0, 0}));
  std::vector<float> ungated = {0.05f, -0.5f, 0.5f, 0};
  GateThresholds(FeedForward::kGelu, {0.1f}, {0, 0}).visit(rows_of(ungated), 0, 1, 0, 1);
  EXPECT_EQ(ungated, (std::vector<float>{0, -0.5f, 0.5f, 0}));
}

TEST(InputThresholds, EachMatrixHasItsOwn) {
  InputThresholds policy({{1, 2, 3, 4}}, {0, 0});
  for (const auto& [input, wanted] : {std::pair{MatrixInput::kAttention, std::vector<float>{0, 1.5f, -3.5f}},
                                      {MatrixInput::kMlp, std::vector<float>{0, 0, -3.5f}}, {MatrixInput::kMlpDown, std::vector<float>{0, 0, 0}}}) {
    EXPECT_TRUE(policy.wants(0, input));
    std::vector<float> values = {0.5f, 1.5f, -3.5f};
    InputRows rows = rows_of(values);
    rows.input = input;
    policy.visit(rows, 0, 1, 0, 1);
    EXPECT_EQ(values, wanted);
  }
}

/// Logits of four neurons: x0, -x0, x1, -x1.
std::shared_ptr<const std::vector<NeuronPredictor>> predictors() {
  const std::vector<float> down = {1, 0, 0, 1}, up = {1, 0, -1, 0, 0, 1, 0, -1};
  return std::make_shared<const std::vector<NeuronPredictor>>(1, NeuronPredictor(2, 2, down, up, {0, 0, 0, 0}));
}

TEST(PredictedNeurons, KeepsTheBestOrTheLikelyAndThoseThatAlwaysTakePart) {
  const std::vector<float> input = {3, -1};  // logits 3, -3, -1, 1
  std::vector<float> values = {1, 2, 3, 4};
  PredictedNeurons(predictors(), PredictedNeurons::Rule::kBest, 0.25, {{}}, {0, 0}).visit(rows_of(values, nullptr, input.data(), 2), 0, 1, 0, 1);
  EXPECT_EQ(values, (std::vector<float>{1, 0, 0, 0}));
  values = {1, 2, 3, 4};
  PredictedNeurons(predictors(), PredictedNeurons::Rule::kLikely, 0.25, {{2}}, {0, 0}).visit(rows_of(values, nullptr, input.data(), 2), 0, 1, 0, 1);
  EXPECT_EQ(values, (std::vector<float>{1, 0, 3, 4}));
}

TEST(NeuronPredictor, OfAnotherSizeOrNotANumberIsRefused) {
  const std::vector<float> two = {1, 2}, four = {1, 2, 3, 4}, nan = {1, NAN};
  EXPECT_TRUE(contains(error_from([&] { NeuronPredictor(2, 1, two, two, {0}); }), {"\"up\"", "2"}));
  EXPECT_TRUE(contains(error_from([&] { NeuronPredictor(2, 1, four, two, {0, 0}); }), {"\"down\"", "4"}));
  EXPECT_TRUE(contains(error_from([&] { NeuronPredictor(2, 1, nan, two, {0, 0}); }), {"NaN", "\"down\""}));
}

}  // namespace
}  // namespace sememe
