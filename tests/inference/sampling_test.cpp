#include "sememe/inference/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr int kDraws = 20000;

std::map<int32_t, double> shares(const SamplingOptions& options, std::span<const float> logits) {
  Sampler sampler(options, 1, "test");
  std::map<int32_t, double> found;
  for (int i = 0; i < kDraws; ++i) found[sampler.draw(logits)] += 1.0 / kDraws;
  return found;
}

TEST(Sampling, DrawsBySoftmax) {
  const float logits[] = {1.0f, 0.0f, 2.0f};
  const double sum = std::exp(1.0) + 1.0 + std::exp(2.0);
  const auto found = shares({1.0, 0, 1.0}, logits);
  EXPECT_NEAR(found.at(0), std::exp(1.0) / sum, 0.015);
  EXPECT_NEAR(found.at(1), 1.0 / sum, 0.015);
  EXPECT_NEAR(found.at(2), std::exp(2.0) / sum, 0.015);
}

TEST(Sampling, TheTemperatureDividesLogits) {
  const float logits[] = {1.0f, 0.0f};
  EXPECT_NEAR(shares({0.5, 0, 1.0}, logits).at(0), 1.0 / (1.0 + std::exp(-2.0)), 0.015);
}

TEST(Sampling, TopKKeepsTheLikeliest) {
  const float logits[] = {0.0f, 3.0f, 1.0f, 3.5f, 2.0f, -1.0f};
  const auto found = shares({1.0, 2, 1.0}, logits);
  EXPECT_EQ(found.size(), 2u);
  EXPECT_NEAR(found.at(3), 1.0 / (1.0 + std::exp(-0.5)), 0.015);
}

TEST(Sampling, TopPEndsWithTheTokenThatReachesIt) {
  const float logits[] = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  EXPECT_EQ(shares({1.0, 0, 0.4}, logits).size(), 1u);
  EXPECT_EQ(shares({1.0, 0, 0.6}, logits).size(), 2u);
  EXPECT_EQ(shares({1.0, 0, 0.9}, logits).size(), 3u);
  EXPECT_NEAR(shares({1.0, 0, 0.6}, logits).at(0), 0.5 / 0.8, 0.015);
  EXPECT_EQ(shares({1.0, 0, 1e-9}, logits).size(), 1u);
}

TEST(Sampling, NoTemperatureTakesTheFirstOfTheBest) {
  const float logits[] = {0.0f, 2.0f, 2.0f};
  EXPECT_EQ(Sampler({0.0, 50, 1.0}, 1, "test").draw(logits), 1);
}

TEST(Sampling, TheSameSeedDrawsTheSame) {
  std::vector<float> logits(1000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  Sampler a({}, 7, "x"), b({}, 7, "x"), c({}, 8, "x");
  bool differs = false;
  for (int i = 0; i < 50; ++i) {
    const int32_t drawn = a.draw(logits);
    EXPECT_EQ(drawn, b.draw(logits));
    differs = differs || drawn != c.draw(logits);
  }
  EXPECT_TRUE(differs);
}

TEST(Sampling, OptionsThatCannotBeAreRefused) {
  EXPECT_THROW(check_sampling({-1.0, 50, 1.0}), UsageError);
  EXPECT_THROW(check_sampling({1.0, -1, 1.0}), UsageError);
  EXPECT_THROW(check_sampling({1.0, 50, 0.0}), UsageError);
  EXPECT_THROW(check_sampling({std::nan(""), 50, 1.0}), UsageError);
}

}  // namespace
}  // namespace sememe
