#define HWY_WANT_AVX3_DL  // as the kernels

#include "sememe/kernels/panels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "tests/kernels/every_target.h"
#include "tests/kernels/random_panels.h"

namespace sememe::kernels {
namespace {

double largest(const std::vector<float>& values) {
  double most = 0.0;
  for (const float value : values) most = std::max(most, std::abs(static_cast<double>(value)));
  return most;
}

TEST(Panels, ProductsAreThoseOfTheReferenceOnEveryTarget) {
  for (const PanelLayout& layout : kLayouts) {
    ASSERT_TRUE(has_kernel(layout));
    RandomStream stream(1, "panels");
    for (const int64_t units : {1, 2, 3}) {
      for (const int64_t panels : {1, 2}) {
        const int64_t width = units * layout.unit_columns(), last = 16, stride = panels * kPanelRows + 3;
        const std::vector<uint8_t> matrix = random_panels(layout, panels, width, stream);
        const QuantizedRows rows = random_rows(last, width, stream);
        std::vector<float> wanted(last * stride, -1.0f);
        panel_products_reference(layout, matrix.data(), panels, rows, 0, last, wanted.data(), stride);
        on_every_target([&] {
          for (const int64_t first : {0, 1, 3, 9, 15, 16}) {
            std::vector<float> out(last * stride, -1.0f);
            panel_products(layout, matrix.data(), panels, rows, first, last, out.data(), stride);
            for (int64_t i = 0; i < last * stride; ++i) {
              const bool written = i / stride >= first && i % stride < panels * kPanelRows;
              ASSERT_NEAR(out[i], written ? wanted[i] : -1.0f, 2e-6 * largest(wanted) + 1e-30)
                  << layout.bits << " bits, zero " << layout.zero << ", row " << i % stride << ", token " << i / stride;
            }
          }
        });
      }
    }
  }
}

TEST(Panels, EveryTargetIncludesThatWithVnniWhereTheProcessorHasIt) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512vbmi2")) GTEST_SKIP() << "this processor has no AVX-512 VNNI";
  bool found = false;
  on_every_target([&] { found = found || hwy::SupportedTargets() == HWY_AVX3_DL; });
  EXPECT_TRUE(found);
#else
  GTEST_SKIP() << "not an x86 processor";
#endif
}

TEST(Panels, ALayoutWithoutAKernelIsRefused) {
  const PanelLayout layout{7, 32, 0, false, false};
  EXPECT_FALSE(has_kernel(layout));
  EXPECT_THROW(panel_products(layout, nullptr, 0, {}, 0, 0, nullptr, 0), Error);
}

TEST(Panels, ProductsOfFloatsAreThoseOfTheReferenceOnEveryTarget) {
  RandomStream stream(1, "panels of floats");
  for (const int64_t width : {1, 5, 64, 257}) {
    const int64_t panels = 2, last = 13, stride = panels * kPanelRows + 1;
    std::vector<float> floats(panels * width * kPanelRows), rows(last * width);
    std::vector<uint16_t> halves(floats.size()), brains(floats.size());
    for (float& value : rows) value = static_cast<float>(stream.normal());
    for (size_t i = 0; i < floats.size(); ++i) {
      floats[i] = static_cast<float>(stream.normal()), halves[i] = draw_half(stream);
      brains[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(stream.normal())) >> 16);
    }
    const std::pair<PanelFloats, const void*> kinds[] = {
        {PanelFloats::kFloat32, floats.data()}, {PanelFloats::kFloat16, halves.data()}, {PanelFloats::kBfloat16, brains.data()}};
    for (const auto& [type, matrix] : kinds) {
      std::vector<float> wanted(last * stride);
      float_panel_products_reference(type, matrix, panels, width, rows.data(), 0, last, wanted.data(), stride);
      on_every_target([&] {
        std::vector<float> out(last * stride);
        float_panel_products(type, matrix, panels, width, rows.data(), 0, last, out.data(), stride);
        for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], wanted[i], 2e-6 * largest(wanted) * std::sqrt(width)) << width << " " << i;
      });
    }
  }
}

TEST(QuantizedRows, BlocksAreThoseOfTheReferenceOnEveryTarget) {
  RandomStream stream(1, "quantized rows");
  const int64_t width = 7 * 32;
  std::vector<float> values(width);
  for (float& value : values) value = static_cast<float>(stream.normal());
  std::fill(values.begin() + 32, values.begin() + 64, 0.0f);
  std::fill(values.begin() + 64, values.begin() + 96, 1e-39f);
  values[100] = 3e38f;
  values[130] = std::numeric_limits<float>::quiet_NaN();
  values[190] = -std::numeric_limits<float>::infinity();
  QuantizedRows wanted;
  wanted.resize(2, width);
  quantize_blocks_reference(values.data(), 1, 0, 7, wanted);
  EXPECT_EQ(wanted.scales[7 + 1], 0.0f);
  EXPECT_EQ(wanted.scales[7 + 2], 0.0f);
  EXPECT_TRUE(std::isnan(wanted.scales[7 + 4]) && std::isnan(wanted.scales[7 + 5]));
  on_every_target([&] {
    QuantizedRows rows;
    rows.resize(2, width);
    quantize_blocks(values.data(), 1, 0, 7, rows);
    for (const int64_t block : {0, 1, 2, 3, 4, 5, 6}) {
      if (block != 4 && block != 5) EXPECT_FLOAT_EQ(rows.scales[7 + block], wanted.scales[7 + block]);
      for (int64_t i = 0; i < 32; ++i) ASSERT_EQ(rows.codes[width + 32 * block + i], wanted.codes[width + 32 * block + i]) << block;
      for (int64_t i = 0; i < 2; ++i) ASSERT_EQ(rows.sums[2 * 7 + 2 * block + i], wanted.sums[2 * 7 + 2 * block + i]);
    }
    EXPECT_TRUE(std::isnan(rows.scales[7 + 4]) && std::isnan(rows.scales[7 + 5]));
  });
}

TEST(QuantizedRows, AValueIsOffByAtMostHalfAStep) {
  RandomStream stream(2, "quantized rows");
  std::vector<float> values(64);
  for (float& value : values) value = static_cast<float>(stream.normal());
  QuantizedRows rows;
  rows.resize(1, 64);
  quantize_blocks(values.data(), 0, 0, 2, rows);
  for (int64_t i = 0; i < 64; ++i) EXPECT_NEAR(rows.scales[i / 32] * rows.codes[i], values[i], 0.501 * rows.scales[i / 32]);
}

}  // namespace
}  // namespace sememe::kernels
