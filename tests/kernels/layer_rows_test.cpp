#include "sememe/kernels/layer_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "sememe/base/random.h"
#include "tests/kernels/every_target.h"

namespace sememe::kernels {
namespace {

std::vector<float> random_row(int64_t width, const char* name, float scale = 3.0f) {
  RandomStream stream(1, name);
  std::vector<float> row(width);
  for (float& value : row) value = scale * static_cast<float>(stream.normal());
  return row;
}

void expect_near(const std::vector<float>& found, const std::vector<float>& wanted) {
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], wanted[i], 3e-6 * (1 + std::abs(wanted[i]))) << i << " of " << found.size();
}

TEST(LayerRows, NormsAreThoseOfTheReferenceOnEveryTarget) {
  for (const int64_t width : kWidths) {
    if (width == 0) continue;
    const std::vector<float> x = random_row(width, "x"), weight = random_row(width, "weight"), bias = random_row(width, "bias");
    std::vector<float> wanted(width), found(width), layer(width);
    rms_norm_row_reference(x.data(), weight.data(), width, 1e-5f, wanted.data());
    layer_norm_row_reference(x.data(), weight.data(), bias.data(), width, 1e-5f, layer.data());
    on_every_target([&] {
      rms_norm_row(x.data(), weight.data(), width, 1e-5f, found.data());
      expect_near(found, wanted);
      found = x;
      rms_norm_row(found.data(), weight.data(), width, 1e-5f, found.data());
      expect_near(found, wanted);
      if (width == 1) return;  // of which layer norm leaves rounding alone
      layer_norm_row(x.data(), weight.data(), bias.data(), width, 1e-5f, found.data());
      expect_near(found, layer);
    });
  }
}

TEST(LayerRows, RotationIsThatOfTheReferenceOnEveryTarget) {
  for (const int64_t half : kWidths) {
    const std::vector<float> x = random_row(2 * half, "x");
    std::vector<float> cosines(half), sines(half), wanted = x;
    for (int64_t i = 0; i < half; ++i) cosines[i] = std::cos(static_cast<float>(i)), sines[i] = std::sin(static_cast<float>(i));
    rotate_row_reference(wanted.data(), cosines.data(), sines.data(), half);
    on_every_target([&] {
      std::vector<float> found = x;
      rotate_row(found.data(), cosines.data(), sines.data(), half);
      expect_near(found, wanted);
    });
  }
}

TEST(LayerRows, UnitsAreThoseOfTheReferenceOnEveryTarget) {
  for (const Unit unit : {Unit::kRelu, Unit::kSilu, Unit::kGelu, Unit::kGeluTanh}) {
    for (const int64_t width : kWidths) {
      std::vector<float> x = random_row(width, "x"), up = random_row(width, "up"), wanted(width), found(width);
      if (width > 3) x[0] = 200.0f, x[1] = -200.0f, x[2] = 0.0f;
      unit_row_reference(unit, x.data(), up.data(), width, wanted.data());
      on_every_target([&] {
        unit_row(unit, x.data(), up.data(), width, found.data());
        expect_near(found, wanted);
        std::vector<float> alone(width), ones(width, 1.0f), wanted_alone(width);
        unit_row_reference(unit, x.data(), ones.data(), width, wanted_alone.data());
        unit_row(unit, x.data(), nullptr, width, alone.data());
        expect_near(alone, wanted_alone);
      });
    }
  }
}

TEST(LayerRows, ANanStaysOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  on_every_target([&] {
    for (const Unit unit : {Unit::kSilu, Unit::kGelu, Unit::kGeluTanh}) {
      std::vector<float> x(40, nan), out(40);
      unit_row(unit, x.data(), nullptr, 40, out.data());
      for (const float value : out) EXPECT_TRUE(std::isnan(value)) << static_cast<int>(unit);
    }
  });
}

TEST(LayerRows, AddsRows) {
  on_every_target([] {
    for (const int64_t width : kWidths) {
      const std::vector<float> x = random_row(width, "x");
      std::vector<float> into = random_row(width, "into"), wanted = into;
      for (int64_t i = 0; i < width; ++i) wanted[i] += x[i];
      add_row(x.data(), width, into.data());
      EXPECT_EQ(into, wanted);
    }
  });
}

}  // namespace
}  // namespace sememe::kernels
