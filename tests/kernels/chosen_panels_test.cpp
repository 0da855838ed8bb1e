#define HWY_WANT_AVX3_DL  // as the kernels

#include "sememe/kernels/chosen_panels.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/every_target.h"
#include "tests/kernels/random_panels.h"

namespace sememe::kernels {
namespace {

/// About `share` of the numbers below n, in order.
std::vector<int32_t> choose(int64_t n, double share, RandomStream& stream) {
  std::vector<int32_t> chosen;
  for (int32_t i = 0; i < n; ++i)
    if (stream.uniform() < share) chosen.push_back(i);
  return chosen;
}

TEST(ChosenPanels, ProductsWithChosenRowsAreThoseOfTheWholeMatrix) {
  for (const PanelLayout& layout : kLayouts) {
    RandomStream stream(1, "chosen-rows");
    const int64_t width = 2 * layout.unit_columns(), panels = 5, bytes = layout.panel_bytes(width);
    const std::vector<uint8_t> matrix = random_panels(layout, panels, width, stream);
    const QuantizedRows x = random_rows(1, width, stream);
    std::vector<float> whole(panels * kPanelRows);
    panel_products(layout, matrix.data(), panels, x, 0, 1, whole.data(), panels * kPanelRows);
    for (const double share : {0.05, 0.4, 0.9, 1.1}) {
      const std::vector<int32_t> rows = choose(panels * kPanelRows, share, stream);
      const int64_t chosen_panels = (static_cast<int64_t>(rows.size()) + kPanelRows - 1) / kPanelRows;
      std::vector<uint8_t> chosen(chosen_panels * bytes, 0xff);
      // In two parts, as two threads would.
      gather_panel_rows(layout, matrix.data(), width, rows, 0, chosen_panels / 2, chosen.data());
      gather_panel_rows(layout, matrix.data(), width, rows, chosen_panels / 2, chosen_panels, chosen.data() + chosen_panels / 2 * bytes);
      std::vector<float> out(chosen_panels * kPanelRows);
      panel_products(layout, chosen.data(), chosen_panels, x, 0, 1, out.data(), chosen_panels * kPanelRows);
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_EQ(out[i], i < rows.size() ? whole[rows[i]] : 0.0f) << layout.bits << " bits, row " << i << " of " << rows.size();
    }
  }
}

TEST(ChosenPanels, ProductsWithChosenRowsOfFloatsAreThoseOfTheWholeMatrix) {
  RandomStream stream(1, "chosen-float-rows");
  const int64_t width = 37, panels = 3;
  std::vector<float> matrix(panels * kPanelRows * width), x(width), whole(panels * kPanelRows);
  for (float& value : matrix) value = static_cast<float>(stream.normal());
  for (float& value : x) value = static_cast<float>(stream.normal());
  std::vector<uint16_t> halves(matrix.size());
  for (uint16_t& half : halves) half = draw_half(stream);
  for (const PanelFloats type : {PanelFloats::kFloat32, PanelFloats::kFloat16}) {
    const int64_t bytes = type == PanelFloats::kFloat32 ? 4 : 2;
    const void* const from = type == PanelFloats::kFloat32 ? static_cast<const void*>(matrix.data()) : halves.data();
    float_panel_products(type, from, panels, width, x.data(), 0, 1, whole.data(), panels * kPanelRows);
    std::vector<int32_t> rows;  // two panels, the second not whole
    for (int32_t row = 1; row < panels * kPanelRows; row += 2) rows.push_back(row);
    std::vector<uint8_t> chosen(2 * kPanelRows * width * bytes);
    gather_float_panel_rows(bytes, static_cast<const uint8_t*>(from), width, rows, 0, 2, chosen.data());
    std::vector<float> out(2 * kPanelRows);
    float_panel_products(type, chosen.data(), 2, width, x.data(), 0, 1, out.data(), 2 * kPanelRows);
    for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], i < rows.size() ? whole[rows[i]] : 0.0f) << i;
  }
}

/// Rows that are zero but at the columns.
QuantizedRows rows_with(const std::vector<int32_t>& columns, int64_t width, RandomStream& stream) {
  std::vector<float> values(width, 0.0f);
  for (const int32_t column : columns) values[column] = static_cast<float>(stream.normal());
  QuantizedRows rows;
  rows.resize(1, width);
  quantize_blocks(values.data(), 0, 0, width / 32, rows);
  return rows;
}

TEST(ChosenPanels, ProductsWithChosenColumnsAreThoseOfTheWholeMatrixOnEveryTarget) {
  for (const PanelLayout& layout : kLayouts) {
    RandomStream stream(2, "chosen-columns");
    const int64_t width = 3 * layout.unit_columns();
    for (const int64_t panels : {1, 2, 5}) {
      const std::vector<uint8_t> matrix = random_panels(layout, panels, width, stream);
      for (const double share : {0.0, 0.02, 0.4, 0.8, 1.1}) {
        const std::vector<int32_t> columns = choose(width, share, stream);
        const ChosenColumns chosen(layout, width, columns);
        const QuantizedRows x = rows_with(columns, width, stream);
        on_every_target([&] {
          std::vector<float> whole(panels * kPanelRows), out(panels * kPanelRows, -1.0f);
          panel_products(layout, matrix.data(), panels, x, 0, 1, whole.data(), panels * kPanelRows);
          std::vector<uint8_t> gathered(panels * chosen.panel_bytes(), 0xff);
          gather_panel_columns(chosen, matrix.data(), 0, panels / 2, gathered.data());
          gather_panel_columns(chosen, matrix.data(), panels / 2, panels, gathered.data() + panels / 2 * chosen.panel_bytes());
          ChosenActivations taken;
          taken.resize(width);
          const auto units = static_cast<int64_t>(chosen.units.size());
          take_columns(chosen, x, 0, 0, units / 2, taken);
          take_columns(chosen, x, 0, units / 2, units, taken);
          chosen_column_products(chosen, gathered.data(), panels, taken, out.data());
          for (int64_t i = 0; i < panels * kPanelRows; ++i)
            ASSERT_EQ(out[i], whole[i]) << layout.bits << " bits in groups of " << layout.group << ", row " << i << ", " << columns.size() << " of " << width;
        });
      }
    }
  }
}

TEST(ChosenPanels, FortyInAHundredColumnsTakeAboutHalfOfTheMemory) {
  RandomStream stream(3, "chosen-bytes");
  const int64_t width = 8192;
  const std::vector<int32_t> columns = choose(width, 0.4, stream);
  const PanelLayout four{4, 32, 8, false, false}, eight{8, 32, 128, false, false};
  EXPECT_LT(ChosenColumns(four, width, columns).panel_bytes(), 0.62 * four.panel_bytes(width));
  EXPECT_LT(ChosenColumns(eight, width, columns).panel_bytes(), 0.52 * eight.panel_bytes(width));
}

}  // namespace
}  // namespace sememe::kernels
