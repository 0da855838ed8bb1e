#pragma once
// Matrices in panels, and rows to multiply them by, drawn at random.

#include <cstdint>
#include <vector>

#include "sememe/base/random.h"
#include "sememe/kernels/panels.h"

namespace sememe::kernels {

inline constexpr PanelLayout kLayouts[] = {{4, 32, 8, false, false}, {4, 32, 0, true, false}, {5, 32, 16, false, false}, {5, 32, 0, true, false},
                                    {8, 32, 128, false, false}, {4, 16, 0, true, true}, {4, 16, 4, false, true}, {4, 32, 0, true, true},
                                    {5, 32, 0, true, true}, {6, 16, 32, false, true}};

inline int64_t draw(RandomStream& stream, int64_t below) { return static_cast<int64_t>(stream.uniform() * static_cast<double>(below)); }

/// Any float16 that is finite and at most 2.
inline uint16_t draw_half(RandomStream& stream) { return static_cast<uint16_t>(draw(stream, 0x4001) | draw(stream, 2) << 15); }

inline PanelUnit random_unit(const PanelLayout& layout, RandomStream& stream) {
  PanelUnit unit;
  for (int64_t row = 0; row < kPanelRows; ++row) {
    unit.scale[row] = draw_half(stream), unit.offset[row] = draw_half(stream);
    for (int64_t group = 0; group < 16; ++group)
      unit.group_scales[group][row] = static_cast<int8_t>(draw(stream, 256)), unit.group_offsets[group][row] = static_cast<int8_t>(draw(stream, 256));
    for (int64_t column = 0; column < 256; ++column)  // extremes often: sums must not overflow
      unit.codes[row][column] = static_cast<uint8_t>(draw(stream, 3) == 0 ? (1 << layout.bits) - 1 : draw(stream, 1 << layout.bits));
  }
  return unit;
}

inline QuantizedRows random_rows(int64_t count, int64_t width, RandomStream& stream) {
  std::vector<float> values(count * width);
  for (float& value : values) value = static_cast<float>(draw(stream, 4) == 0 ? 3.0 : stream.normal());
  QuantizedRows rows;
  rows.resize(count, width);
  for (int64_t row = 0; row < count; ++row) quantize_blocks(values.data() + row * width, row, 0, width / 32, rows);
  return rows;
}

inline std::vector<uint8_t> random_panels(const PanelLayout& layout, int64_t panels, int64_t width, RandomStream& stream) {
  std::vector<uint8_t> matrix(panels * layout.panel_bytes(width));
  for (size_t at = 0; at < matrix.size(); at += layout.unit_bytes()) pack_unit(layout, random_unit(layout, stream), matrix.data() + at);
  return matrix;
}

}  // namespace sememe::kernels
