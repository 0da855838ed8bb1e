#include "sememe/kernels/adam.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "sememe/base/random.h"
#include "sememe/kernels/bfloat16.h"
#include "tests/kernels/every_target.h"

namespace sememe::kernels {
namespace {

std::vector<float> normals(int64_t n, const char* name, float scale = 1.0f) {
  RandomStream stream(1, name);
  std::vector<float> values(n);
  for (float& value : values) value = scale * static_cast<float>(stream.normal());
  return values;
}

struct Weights {
  explicit Weights(int64_t n) : values(normals(n, "weights")), first(n, 0.0f), second(n, 0.0f) {}
  std::vector<float> values, first, second;
};

void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-6f * (1.0f + std::abs(b[i]))) << i;
}

TEST(Adam, EveryTargetFollowsTheReferenceOverManySteps) {
  on_every_target([] {
    for (const int64_t n : kWidths) {
      Weights ours(n), reference(n);
      for (int64_t t = 1; t <= 5; ++t) {
        const std::vector<float> gradients = normals(n, t % 2 ? "odd" : "even", 0.1f);
        const AdamStep step = AdamStep::at(t, 0.01);
        adam(step, ours.values.data(), gradients.data(), ours.first.data(), ours.second.data(), n);
        adam_reference(step, reference.values.data(), gradients.data(), reference.first.data(), reference.second.data(), n);
      }
      expect_near(ours.values, reference.values);
      expect_near(ours.second, reference.second);
    }
  });
}

TEST(Adam, TheFirstStepMovesEveryWeightByTheRate) {
  std::vector<float> weights = {1.0f, 2.0f}, gradients = {5.0f, -1e-3f}, first(2), second(2);
  adam(AdamStep::at(1, 0.1), weights.data(), gradients.data(), first.data(), second.data(), 2);
  EXPECT_NEAR(weights[0], 0.9f, 1e-6f);
  EXPECT_NEAR(weights[1], 2.1f, 1e-6f);
}

TEST(Adam, UnitRowsStayOfNormOneAndFollowTheReference) {
  on_every_target([] {
    for (const int64_t n : {2, 3, 7, 16, 33, 768}) {
      Weights ours(n), reference(n);
      const float norm = norm_of(ours.values.data(), n);
      for (float& value : ours.values) value /= norm;
      reference.values = ours.values;
      for (int64_t t = 1; t <= 5; ++t) {
        std::vector<float> gradients = normals(n, t % 2 ? "odd" : "even"), same = gradients;
        const AdamStep step = AdamStep::at(t, 0.05);
        const float after = adam_unit_row(step, ours.values.data(), gradients.data(), ours.first.data(), ours.second.data(), n);
        const float expected =
            adam_unit_row_reference(step, reference.values.data(), same.data(), reference.first.data(), reference.second.data(), n);
        EXPECT_NEAR(after, expected, 1e-5f);
        EXPECT_NEAR(norm_of(ours.values.data(), n), 1.0f, 1e-6f);
      }
      expect_near(ours.values, reference.values);
    }
  });
}

TEST(Adam, AGradientAlongAUnitRowMovesNothing) {
  std::vector<float> row = {0.6f, 0.8f}, gradients = {1.2f, 1.6f}, first(2), second(2);
  adam_unit_row(AdamStep::at(1, 0.1), row.data(), gradients.data(), first.data(), second.data(), 2);
  EXPECT_NEAR(gradients[0], 0.0f, 1e-6f);
  EXPECT_NEAR(first[1], 0.0f, 1e-6f);
}

TEST(Adam, ARowThatVanishedIsLeftForTheCallerToRedraw) {
  std::vector<float> row = {0.0f, 0.0f}, gradients = {0.0f, 0.0f}, first(2), second(2);
  EXPECT_EQ(adam_unit_row(AdamStep::at(1, 0.1), row.data(), gradients.data(), first.data(), second.data(), 2), 0.0f);
  EXPECT_EQ(row[0], 0.0f);
}

TEST(Bfloat16, EveryTargetRoundsToNearestEven) {
  std::vector<float> values = {0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, -1.00390626f, 3.4e38f, INFINITY, -INFINITY, 1e-40f, NAN};
  const std::vector<float> more = normals(1000, "values");
  values.insert(values.end(), more.begin(), more.end());
  on_every_target([&] {
    for (const size_t n : {size_t{0}, size_t{1}, size_t{11}, values.size()}) {
      std::vector<uint16_t> ours(n + 1, 7), reference(n + 1, 7);
      round_to_bfloat16(values.data(), static_cast<int64_t>(n), ours.data());
      round_to_bfloat16_reference(values.data(), static_cast<int64_t>(n), reference.data());
      EXPECT_EQ(ours, reference);
    }
  });
  on_every_target([&] {
    std::vector<uint16_t> rounded(more.size());
    round_to_bfloat16(more.data(), static_cast<int64_t>(more.size()), rounded.data());
    double lost = 0;
    for (size_t i = 0; i < 987; ++i) lost += std::pow(more[i] - std::bit_cast<float>(uint32_t{rounded[i]} << 16), 2.0);
    EXPECT_NEAR(rounding_error(more.data(), rounded.data(), 987), std::sqrt(lost), 1e-6);
  });
  std::vector<uint16_t> rounded(values.size());
  round_to_bfloat16(values.data(), static_cast<int64_t>(values.size()), rounded.data());
  EXPECT_EQ(rounded[2], 0x3F80);  // 1
  EXPECT_EQ(rounded[3], 0x3F80);  // half way, to even
  EXPECT_EQ(rounded[4], 0x3F82);  // half way, to even
  EXPECT_EQ(rounded[6], 0x7F80);  // beyond the largest
  EXPECT_GT(rounded[10] & 0x7F, 0);
}

}  // namespace
}  // namespace sememe::kernels
