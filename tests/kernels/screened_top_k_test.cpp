#include "sememe/kernels/screened_top_k.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/kernels/adam.h"
#include "sememe/kernels/bfloat16.h"
#include "sememe/kernels/weighted_rows.h"
#include "tests/kernels/every_target.h"

namespace sememe::kernels {
namespace {

std::vector<float> normals(int64_t n, const std::string& name) {
  RandomStream stream(1, name);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(stream.normal());
  return values;
}

/// What bfloat16 leaves of a number.
float halved(float value) {
  uint16_t half;
  round_to_bfloat16_reference(&value, 1, &half);
  return std::bit_cast<float>(uint32_t{half} << 16);
}

enum class Screen { kExact, kPerturbed, kBfloat16, kUseless };

/// Inputs, a matrix, their exact products, and approximations of them with bounds that hold.
struct Products {
  Products(int64_t rows, int64_t width, int64_t latents, Screen screen, const std::string& name)
      : inputs(normals(rows * width, name + "/inputs")), matrix(normals(latents * width, name + "/matrix")), exact(rows * latents),
        approximate(rows * latents), half(rows * latents), errors(rows), norms(latents), width_(width), screen_(screen) {
    for (int64_t i = latents / 2; i + 1 < latents && i < latents / 2 + 3; ++i)  // equal rows tie
      std::copy_n(matrix.begin() + (latents / 2) * width, width, matrix.begin() + (i + 1) * width);
    compute(rows, latents);
  }

  void compute(int64_t rows, int64_t latents) {
    std::vector<int32_t> all(latents);
    std::iota(all.begin(), all.end(), 0);
    RandomStream noise(2, "noise");
    for (int64_t i = 0; i < latents; ++i) norms[i] = norm_of(&matrix[i * width_], width_);
    for (int64_t row = 0; row < rows; ++row) {
      const float* const input = &inputs[row * width_];
      dot_rows(&exact[row * latents], input, width_, all.data(), latents, matrix.data());
      const float norm = norm_of(input, width_), rounding = 1e-6f * static_cast<float>(width_);
      errors[row] = norm * (screen_ == Screen::kExact ? 0.0f : screen_ == Screen::kPerturbed ? 0.05f : screen_ == Screen::kUseless ? 1e3f
                                                                                                        : 0x1.02p-8f + rounding);
      for (int64_t i = 0; i < latents; ++i) {
        float value = exact[row * latents + i];
        if (screen_ == Screen::kPerturbed || screen_ == Screen::kUseless)
          value += errors[row] * norms[i] * 0.999f * (noise.uniform() < 0.5 ? -1.0f : 1.0f);
        if (screen_ == Screen::kBfloat16) {
          value = 0;
          for (int64_t j = 0; j < width_; ++j) value += halved(input[j]) * halved(matrix[i * width_ + j]);
        }
        approximate[row * latents + i] = value;
      }
    }
    round_to_bfloat16(approximate.data(), rows * latents, half.data());
  }

  ApproximateProducts view() const {
    const bool low = screen_ == Screen::kBfloat16;
    return {inputs.data(), matrix.data(), low ? static_cast<const void*>(half.data()) : approximate.data(), low, errors.data(), norms.data()};
  }

  std::vector<float> inputs, matrix, exact, approximate;
  std::vector<uint16_t> half;
  std::vector<float> errors, norms;

 private:
  int64_t width_;
  Screen screen_;
};

struct Selected {
  Selected(int64_t rows, int64_t k) : latents(rows * k, -7), counts(rows, -7), values(rows * k, -7.0f) {}
  TopKOutput output() { return {latents.data(), values.data(), counts.data()}; }
  std::vector<int32_t> latents, counts;
  std::vector<float> values;
  bool operator==(const Selected&) const = default;
};

void expect_codes_of_exact_products(int64_t rows, int64_t width, int64_t latents, TopKOptions options, Screen screen) {
  const Products activations(rows, width, latents, screen, "activations");
  Products influence(rows, width, latents, screen, "influence");
  if (rows > 1) {  // the first row has no gradient
    std::fill_n(influence.inputs.begin(), width, 0.0f);
    influence.compute(rows, latents);
  }
  std::vector<float> bias = normals(latents, "bias"), dense = activations.exact, dense_influence = influence.exact;
  for (int64_t i = 0; i < rows * latents; ++i) dense[i] += bias[i % latents];
  for (float& value : dense_influence) value = std::abs(value);
  Selected expected(rows, options.k), ours(rows, options.k);
  options.influence = dense_influence.data();
  ASSERT_FALSE(top_k_reference(dense.data(), rows, latents, options, expected.output()));
  options.influence = nullptr;
  const ApproximateProducts influence_view = influence.view();
  ASSERT_FALSE(screened_top_k({activations.view(), bias.data(), &influence_view, rows, width, latents}, options, ours.output()));
  EXPECT_TRUE(ours == expected) << rows << " x " << width << " x " << latents << ", k " << options.k << ", score "
                                << static_cast<int>(options.score) << ", screen " << static_cast<int>(screen);
}

TEST(ScreenedTopK, CodesAreThoseOfExactProductsWhateverTheScreen) {
  on_every_target([] {
    for (const Screen screen : {Screen::kExact, Screen::kPerturbed, Screen::kBfloat16, Screen::kUseless})
      for (const SelectionScore score : {SelectionScore::kValue, SelectionScore::kAdditive, SelectionScore::kProduct})
        for (const int64_t latents : {1, 5, 16, 17, 63, 300, 1025})
          for (const int64_t k : {1, 7, 32})
            expect_codes_of_exact_products(3, 24, latents, {.k = k, .score = score, .beta = 0.7f}, screen);
  });
}

TEST(ScreenedTopK, ByProductARowWithoutAnyInfluenceIsRankedByValue) {
  Products activations(1, 2, 20, Screen::kExact, "activations"), influence(1, 2, 20, Screen::kExact, "influence");
  influence.inputs = {1.0f, 0.0f};
  for (int64_t i = 0; i < 20; ++i) influence.matrix[2 * i] = 0.0f;  // at right angles
  influence.compute(1, 20);
  Selected expected(1, 3), ours(1, 3);
  ASSERT_FALSE(top_k_reference(activations.exact.data(), 1, 20, {.k = 3}, expected.output()));
  const ApproximateProducts view = influence.view();
  ASSERT_FALSE(screened_top_k({activations.view(), nullptr, &view, 1, 2, 20}, {.k = 3, .score = SelectionScore::kProduct}, ours.output()));
  EXPECT_TRUE(ours == expected);
}

TEST(ScreenedTopK, GivesTheScoresThatRankedTheCodes) {
  const Products activations(3, 8, 40, Screen::kExact, "activations"), influence(3, 8, 40, Screen::kExact, "influence");
  const ApproximateProducts view = influence.view();
  Selected selected(3, 5);
  std::vector<float> scores(15, -7.0f);
  TopKOutput output = selected.output();
  output.scores = scores.data();
  ASSERT_FALSE(screened_top_k({activations.view(), nullptr, &view, 3, 8, 40}, {.k = 5, .score = SelectionScore::kAdditive, .beta = 0.7f}, output));
  for (int64_t row = 0; row < 3; ++row)
    for (int64_t i = row * 5; i < row * 5 + selected.counts[row]; ++i)
      EXPECT_FLOAT_EQ(scores[i], selected.values[i] * (1.0f + 0.7f * std::abs(influence.exact[row * 40 + selected.latents[i]])));
}

TEST(ScreenedTopK, OddWidthsAndNoRowsAreFine) {
  for (const int64_t width : {1, 3, 17}) expect_codes_of_exact_products(2, width, 40, {.k = 4}, Screen::kBfloat16);
  expect_codes_of_exact_products(0, 8, 40, {.k = 4}, Screen::kBfloat16);
}

TEST(ScreenedTopK, AnApproximationOutOfRangeDoesNotHideExactProductsInRange) {
  Products products(2, 8, 50, Screen::kExact, "activations");
  Selected expected(2, 5), ours(2, 5);
  ASSERT_FALSE(top_k_reference(products.exact.data(), 2, 50, {.k = 5}, expected.output()));
  products.approximate[60] = std::numeric_limits<float>::infinity();
  products.approximate[70] = std::numeric_limits<float>::quiet_NaN();
  ASSERT_FALSE(screened_top_k({products.view(), nullptr, nullptr, 2, 8, 50}, {.k = 5}, ours.output()));
  EXPECT_TRUE(ours == expected);
}

TEST(ScreenedTopK, ANanInTheInputsNamesItsRow) {
  Products products(3, 8, 50, Screen::kExact, "activations");
  products.inputs[1 * 8 + 2] = std::numeric_limits<float>::quiet_NaN();
  products.compute(3, 50);
  Selected ours(3, 5);
  const auto fault = screened_top_k({products.view(), nullptr, nullptr, 3, 8, 50}, {.k = 5}, ours.output());
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->row, 1);
  EXPECT_EQ(fault->source, UnrankableEntry::Source::kPreActivation);
}

TEST(ScreenedTopK, OptionsThatMakeNoSenseAreRefused) {
  const Products products(1, 4, 8, Screen::kExact, "activations");
  Selected ours(1, 4);
  EXPECT_THROW(screened_top_k({products.view(), nullptr, nullptr, 1, 4, 8}, {.k = 0}, ours.output()), Error);
  EXPECT_THROW(screened_top_k({products.view(), nullptr, nullptr, 1, 4, 8}, {.k = 1, .score = SelectionScore::kProduct}, ours.output()), Error);
}

}  // namespace
}  // namespace sememe::kernels
