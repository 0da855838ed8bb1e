#include "sememe/features/bootstrap.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>

#include "sememe/base/error.h"
#include "sememe/base/random.h"

namespace sememe {
namespace {

std::vector<double> mean_of(std::span<const double> sums) { return {sums[0] / sums[1]}; }

/// Contexts of one value each, standard normal.
std::vector<std::vector<double>> normal_contexts(int64_t count, uint64_t seed) {
  RandomStream stream(seed, "test");
  std::vector<std::vector<double>> sums;
  for (int64_t i = 0; i < count; ++i) sums.push_back({stream.normal(), 1.0});
  return sums;
}

TEST(BootstrapIntervals, OfAMeanAreThoseOfItsStandardError) {
  const int64_t count = 400;
  const auto sums = normal_contexts(count, 1);
  double mean = 0.0, square = 0.0;
  for (const auto& one : sums) {
    mean += one[0] / count;
    square += one[0] * one[0] / count;
  }
  const double error = std::sqrt((square - mean * mean) / count);
  const Interval interval = *bootstrap_intervals(sums, mean_of, 1)[0];
  EXPECT_NEAR(interval.low, mean - 1.96 * error, 0.3 * error);
  EXPECT_NEAR(interval.high, mean + 1.96 * error, 0.3 * error);
}

TEST(BootstrapIntervals, HoldTheTruthInAboutNineteenOfTwentyTexts) {
  int held = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Interval interval = *bootstrap_intervals(normal_contexts(50, seed), mean_of, 1)[0];
    held += interval.low < 0 && 0 < interval.high;
  }
  EXPECT_GE(held, 178);
  EXPECT_LE(held, 199);
}

TEST(BootstrapIntervals, ShrinkWithMoreContexts) {
  const Interval few = *bootstrap_intervals(normal_contexts(50, 2), mean_of, 1)[0];
  const Interval many = *bootstrap_intervals(normal_contexts(5000, 2), mean_of, 1)[0];
  EXPECT_NEAR((few.high - few.low) / (many.high - many.low), 10.0, 3.0);
}

RC_GTEST_PROP(BootstrapIntervals, DependOnTheSeedOnly, ()) {
  const auto sums = normal_contexts(*rc::gen::inRange<int64_t>(20, 60), 3);
  const uint64_t seed = *rc::gen::inRange<uint64_t>(0, 1000);
  const Interval one = *bootstrap_intervals(sums, mean_of, seed)[0], again = *bootstrap_intervals(sums, mean_of, seed)[0];
  RC_ASSERT((one.low == again.low && one.high == again.high));
  RC_ASSERT(one.low < one.high);
  const Interval other = *bootstrap_intervals(sums, mean_of, seed + 1)[0];
  RC_ASSERT((other.low != one.low || other.high != one.high));
}

TEST(BootstrapIntervals, NeedTwoContextsAndFiniteFigures) {
  EXPECT_FALSE(bootstrap_intervals({}, [](std::span<const double>) { return std::vector<double>{1.0}; }, 1)[0].has_value());
  EXPECT_FALSE(bootstrap_intervals({{1.0, 1.0}}, mean_of, 1)[0].has_value());
  EXPECT_FALSE(bootstrap_intervals({{0.0, 0.0}, {0.0, 0.0}}, mean_of, 1)[0].has_value());
  const Interval same = *bootstrap_intervals({{2.0, 1.0}, {2.0, 1.0}}, mean_of, 1)[0];
  EXPECT_EQ(same.low, 2.0);
  EXPECT_EQ(same.high, 2.0);
}

TEST(PairedBootstrap, IsSmallForAClearDifferenceAndAHalfForNone) {
  std::vector<double> first, second, clear;
  RandomStream stream(5, "test");
  for (int i = 0; i < 200; ++i) {
    const double shared = 10.0 * stream.normal();  // pairs cancel what they share
    first.push_back(shared + 0.1 * stream.normal());
    second.push_back(shared + (i % 2 == 0 ? 0.1 : -0.1));
    clear.push_back(shared - 0.2);
  }
  EXPECT_LT(paired_bootstrap_p(first, clear, 1), 0.001);
  EXPECT_GT(paired_bootstrap_p(clear, first, 1), 0.999);
  EXPECT_EQ(paired_bootstrap_p(first, first, 1), 1.0);  // no draw lies above 0
  const double none = paired_bootstrap_p(first, second, 1);
  EXPECT_GT(none, 0.01);
  EXPECT_LT(none, 0.99);
  EXPECT_THROW(paired_bootstrap_p(first, {}, 1), Error);
}

TEST(Mean, IsTheSumOverTheNumber) {
  EXPECT_EQ(mean(std::vector<double>{7.0}), 7.0);
  EXPECT_EQ(mean(std::vector<double>{1.0, 2.0, 6.0}), 3.0);
}

TEST(Percentile, IsLinearBetweenNeighbours) {
  const std::vector<double> values{1.0, 2.0, 4.0};
  EXPECT_EQ(percentile(values, 0), 1.0);
  EXPECT_EQ(percentile(values, 25), 1.5);
  EXPECT_EQ(percentile(values, 50), 2.0);
  EXPECT_EQ(percentile(values, 75), 3.0);
  EXPECT_EQ(percentile(values, 100), 4.0);
  EXPECT_EQ(percentile(std::vector<double>{7.0}, 95), 7.0);
}

}  // namespace
}  // namespace sememe
