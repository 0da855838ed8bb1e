#include "sememe/families/transformer_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "sememe/base/error.h"

namespace sememe {
namespace {

TEST(RotaryFrequencies, FallByEqualFactorsFromOneTowardsTheBase) {
  TransformerConfig config;
  config.head_width = 8;
  config.rotary_base = 10000;
  const std::vector<double> found = rotary_frequencies(config, false);
  ASSERT_EQ(found.size(), 4u);
  for (const auto& [i, expected] : {std::pair{0, 1.0}, {1, 0.1}, {2, 0.01}, {3, 0.001}}) EXPECT_NEAR(found[i], expected, 1e-12);
}

TEST(RotaryFrequencies, OfAPartOfTheHeadAreThoseOfAHeadOfThatWidth) {
  TransformerConfig part, whole;
  part.head_width = 20;
  part.rotary_width = whole.head_width = 8;
  EXPECT_EQ(rotary_frequencies(part, false), rotary_frequencies(whole, false));
}

TEST(RotaryFrequencies, LocalLayersWithABaseOfTheirOwnAreNotScaled) {
  TransformerConfig config, plain;
  config.rotary_scaling.kind = RotaryScaling::Kind::kLinear;
  config.rotary_scaling.factor = 4;
  const std::vector<double> unscaled = rotary_frequencies(plain, false), scaled = rotary_frequencies(config, false);
  for (size_t i = 0; i < scaled.size(); ++i) EXPECT_DOUBLE_EQ(scaled[i], unscaled[i] / 4);
  EXPECT_EQ(rotary_frequencies(config, true), scaled);
  config.local_rotary_base = plain.rotary_base;
  EXPECT_EQ(rotary_frequencies(config, true), unscaled);
}

TEST(RotaryFrequencies, Llama3SlowsWhatTurnsSeldomKeepsWhatTurnsOftenAndGoesBetweenInBetween) {
  TransformerConfig config;
  config.head_width = 6;  // frequencies 1, 1 / base^(1/3), 1 / base^(2/3)
  config.rotary_base = 8;
  config.rotary_scaling = {.kind = RotaryScaling::Kind::kLlama3, .factor = 10, .low_turns = 2, .high_turns = 6, .divisors = {}};
  const auto divisor_of_second = [&](double turns) {
    config.rotary_scaling.original_context = std::llround(turns * 2 * std::numbers::pi / 0.5);
    return 0.5 / rotary_frequencies(config, false)[1];
  };
  EXPECT_NEAR(divisor_of_second(1.9), 10, 1e-9);
  EXPECT_NEAR(divisor_of_second(6.1), 1, 1e-9);
  config.rotary_scaling.original_context = 50;
  const double turns = 50 * 0.5 / (2 * std::numbers::pi), share = (turns - 2) / 4;  // 3.98 of them
  EXPECT_NEAR(0.5 / rotary_frequencies(config, false)[1], 1 / ((1 - share) / 10 + share), 1e-9);
}

TEST(RotaryFrequencies, EachIsDividedByItsDivisor) {
  TransformerConfig config;
  config.head_width = 4;
  const std::vector<double> plain = rotary_frequencies(config, false);
  config.rotary_scaling.kind = RotaryScaling::Kind::kDivisors;
  config.rotary_scaling.divisors = {2, 8};
  check_config(config);
  EXPECT_EQ(rotary_frequencies(config, false), (std::vector<double>{plain[0] / 2, plain[1] / 8}));
}

TEST(TransformerConfig, WhatCannotBeIsRefusedByName) {
  const auto refused = [](const char* name, const std::function<void(TransformerConfig&)>& change) {
    TransformerConfig config;
    change(config);
    try {
      check_config(config);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  };
  refused("rotary_width", [](TransformerConfig& config) { config.rotary_width = 7; });
  refused("rotary_width", [](TransformerConfig& config) { config.rotary_width = config.head_width + 2; });
  refused("local_layers", [](TransformerConfig& config) { config.local_layers = {true}; });
  refused("window", [](TransformerConfig& config) { config.local_layers.assign(config.layers, true); });
  refused("attention_scale", [](TransformerConfig& config) { config.attention_scale = -1; });
  refused("final_softcap", [](TransformerConfig& config) { config.final_softcap = NAN; });
  refused("position_offset", [](TransformerConfig& config) { config.position_offset = -1; });
  refused("local_rotary_base", [](TransformerConfig& config) { config.local_rotary_base = 0.5; });
  refused("divisors", [](TransformerConfig& config) { config.rotary_scaling.kind = RotaryScaling::Kind::kDivisors; });
  refused("scaled by 0", [](TransformerConfig& config) { config.rotary_scaling.factor = 0; });
  refused("low factor", [](TransformerConfig& config) {
    config.rotary_scaling.kind = RotaryScaling::Kind::kLlama3;
    config.rotary_scaling.low_turns = 5;
  });
}

}  // namespace
}  // namespace sememe
