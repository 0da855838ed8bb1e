#include "sememe/families/rotary_scaling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "sememe/base/error.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

std::vector<double> plain(double base, int64_t count) {
  std::vector<double> frequencies(count);
  for (int64_t i = 0; i < count; ++i) frequencies[i] = std::pow(base, -static_cast<double>(i) / static_cast<double>(count));
  return frequencies;
}

const RotaryScaling kYarn = {
    .kind = RotaryScaling::Kind::kYarn, .factor = 4, .low_turns = 1, .high_turns = 32, .original_context = 4096, .divisors = {}};

TEST(Yarn, KeepsWhatTurnsOftenSlowsWhatTurnsSeldomAndGoesBetweenInBetween) {
  const std::vector<double> before = plain(10000, 64);
  std::vector<double> after = before;
  slow_frequencies(kYarn, 10000, after);
  double last = 1;
  int often = 0, seldom = 0, between = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const double turns = 4096 * before[i] / (2 * std::numbers::pi), slower = before[i] / after[i];
    // The borders are rounded outwards to whole numbers of frequencies, a sixty-fourth part of the base's power each.
    const double step = std::pow(10000, 1.0 / 64);
    if (turns > 32 * step) {
      EXPECT_EQ(slower, 1) << i;
      ++often;
    } else if (turns < 1 / step) {
      EXPECT_NEAR(slower, 4, 1e-12) << i;
      ++seldom;
    } else if (turns < 32 && turns > 1) {
      EXPECT_TRUE(slower > 1 && slower < 4) << i << " by " << slower;
      ++between;
    }
    EXPECT_GE(slower, last);
    last = slower;
  }
  EXPECT_GT(often, 10);
  EXPECT_GT(seldom, 10);
  EXPECT_GT(between, 10);
}

TEST(Yarn, BordersThatMeetMakeAStep) {
  RotaryScaling scaling = kYarn;
  scaling.low_turns = 1e6;  // all turn less often
  scaling.high_turns = 2e6;
  std::vector<double> after = plain(10000, 4);
  slow_frequencies(scaling, 10000, after);
  const std::vector<double> before = plain(10000, 4);
  for (size_t i = 1; i < 4; ++i) EXPECT_NEAR(after[i], before[i] / 4, 1e-15);
  EXPECT_TRUE(std::isfinite(after[0]));
}

TEST(RotaryMagnitudes, AreThoseOfThePapers) {
  EXPECT_EQ(yarn_magnitude(1), 1);
  EXPECT_EQ(yarn_magnitude(0.5), 1);
  EXPECT_NEAR(yarn_magnitude(std::exp(2.0)), 1.2, 1e-12);
  EXPECT_EQ(longrope_magnitude(1, 4096), 1);
  EXPECT_NEAR(longrope_magnitude(32, 4096), std::sqrt(17.0 / 12), 1e-12);
}

TEST(RotaryScaling, WhatCannotBeIsRefusedByName) {
  const auto refused = [](RotaryScaling scaling) { return error_from([&] { check_rotary_scaling(scaling, 8); }); };
  EXPECT_EQ(refused(kYarn), "no error");
  RotaryScaling changed = kYarn;
  changed.magnitude = 0;
  EXPECT_TRUE(contains(refused(changed), {"multiplied by 0"}));
  changed = kYarn;
  changed.high_turns = 0.5;
  EXPECT_TRUE(contains(refused(changed), {"rotary scaling", "0.5"}));
  changed = kYarn;
  changed.original_context = 0;
  EXPECT_TRUE(contains(refused(changed), {"first context of 0"}));
  changed = {.kind = RotaryScaling::Kind::kDivisors, .divisors = std::vector<float>(7, 1.0f)};
  EXPECT_TRUE(contains(refused(changed), {"7 divisors", "8"}));
}

}  // namespace
}  // namespace sememe
