#include "sememe/kernels/multiplicative_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels/every_target.h"
#include "tests/kernels/random_codes.h"

namespace sememe::kernels {
namespace {

TEST(MultiplicativeStep, MovesCoefficientsAsTheFormulaSays) {
  // Two features, two rows; the features' product is -2, with themselves 1 and 4.
  const std::vector<float> coefficients{1, 2, 3, 0}, products{5, -6, -7, 8}, scales{1, 0.5f};
  const std::vector<int64_t> offsets{0, 1, 2};
  const std::vector<int32_t> others{1, 0}, selves{0, 1};
  const std::vector<float> negative{2, 2}, positive{1, 4};
  const CodeRows up{2, offsets.data(), others.data(), negative.data()}, down{2, offsets.data(), selves.data(), positive.data()};
  on_every_target([&] {
    std::vector<float> next(4, -1);
    const double cross = multiplicative_step({coefficients.data(), products.data(), 2, up, down, scales.data(), 1.0f, 1e-30f}, next.data());
    const std::vector<float> wanted{std::sqrt((5 + 2 * 3) / (1.0f + 1)), 0.0f, 1.5f * std::sqrt(2 * 1 / (7.0f + 4 * 3 + 1)), 0.0f};
    expect_close(next, wanted);
    EXPECT_NEAR(cross, 5 * wanted[0] - 7 * wanted[2], 1e-4);
  });
}

TEST(MultiplicativeStep, WhatIsBelowTheLeastBecomesNothing) {
  const std::vector<float> coefficients{1e-3f}, products{1}, scales{1};
  const std::vector<int64_t> offsets{0, 0};
  const CodeRows none{1, offsets.data(), nullptr, nullptr};
  float next = -1;
  multiplicative_step({coefficients.data(), products.data(), 1, none, none, scales.data(), 1.0f, 1e-2f}, &next);
  EXPECT_EQ(next, 0.0f);
}

TEST(MultiplicativeStep, AgreesWithTheReferenceAtEverySize) {
  on_every_target([] {
    for (const int64_t rows : kWidths) {
      const int64_t features = 7;
      const RandomCodes up(features, features, 1), down(features, features, 2);
      auto coefficients = random_matrix(features, rows, "coefficients"), scales = random_matrix(1, features, "scales");
      for (float& value : coefficients) value = std::abs(value);
      for (float& value : scales) value = std::abs(value);
      const auto products = random_matrix(features, rows, "products");
      const MultiplicativeStep step{coefficients.data(), products.data(), rows, up.view(), down.view(), scales.data(), 1e-6f, 1e-30f};
      std::vector<float> next(features * rows), reference(features * rows);
      const double cross = multiplicative_step(step, next.data()), wanted = multiplicative_step_reference(step, reference.data());
      for (size_t i = 0; i < next.size(); ++i) ASSERT_NEAR(next[i], reference[i], 1e-4f * (1 + reference[i])) << rows << ", " << i;
      EXPECT_NEAR(cross, wanted, 1e-4 * (1 + std::abs(wanted))) << rows;
    }
  });
}

}  // namespace
}  // namespace sememe::kernels
