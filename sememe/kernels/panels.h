#pragma once
// Quantised matrices as panels of 16 rows, repacked so that a product reads memory in order and keeps a row in each lane of a vector: no sum over
// lanes, and a scale of a group is one vector for 16 rows.
//
// A panel is a run of units, each 16 rows of a block (32 columns, or 256 where groups have scales of their own):
//   float16 scale [16] | float16 offset [16], if any | int8 group scale [groups, 16], if any | int8 group offset [groups, 16], if both | codes
// The codes of 32 columns are vectors of 64 bytes, four columns of each row side by side, as products of four bytes in a lane want them.
// Vector j < 4 has columns 4 j to 4 j + 3 and those 16 further: of 8 bits in vectors j and j + 4; of 4 bits in the low and the high half of a
// byte. The fifth bits follow in one vector: bit j of a byte for the low, bit 4 + j for the high half. The fifth and sixth follow in two:
// bits 2 j and 2 j + 1, the first vector for the low halves, the second for the high ones.

#include <cstdint>

#include "sememe/kernels/quantized_rows.h"

namespace sememe::kernels {

inline constexpr int64_t kPanelRows = 16;

/// Which codes a panel has: w = scale (code - zero) + offset, the group's scale and offset times the block's where groups have them.
struct PanelLayout {
  int bits = 4;   ///< 4, 5, 6 or 8
  int group = 32;  ///< columns, 16 or 32
  int zero = 0;
  bool offsets = false;
  bool group_scales = false;

  int64_t unit_columns() const { return group_scales ? 256 : 32; }
  int64_t unit_bytes() const;
  /// @param width a multiple of unit_columns()
  int64_t panel_bytes(int64_t width) const { return width / unit_columns() * unit_bytes(); }
  bool operator==(const PanelLayout&) const = default;
};

/// Whether there are kernels for it.
bool has_kernel(const PanelLayout& layout);

/// One unit taken apart.
struct PanelUnit {
  uint16_t scale[kPanelRows] = {}, offset[kPanelRows] = {};  ///< float16
  int8_t group_scales[16][kPanelRows] = {}, group_offsets[16][kPanelRows] = {};
  uint8_t codes[kPanelRows][256] = {};
};

/// Writes unit_bytes() bytes.
void pack_unit(const PanelLayout& layout, const PanelUnit& unit, uint8_t* bytes);

/// out[t * stride + 16 p + r] = row 16 p + r of the matrix . row t of `rows`, for each of `panels` panels and rows first <= t < last. Sums of codes
/// are exact, sums of groups are float32 in the order of columns; it depends on nothing but the two rows.
/// @param matrix panels of the layout and of rows.width columns, one behind the other
/// @throws Error if there is no kernel for the layout
void panel_products(const PanelLayout& layout, const uint8_t* matrix, int64_t panels, const QuantizedRows& rows, int64_t first, int64_t last,
                    float* out, int64_t stride);
void panel_products_reference(const PanelLayout& layout, const uint8_t* matrix, int64_t panels, const QuantizedRows& rows, int64_t first,
                              int64_t last, float* out, int64_t stride);

enum class PanelFloats { kFloat32, kFloat16, kBfloat16 };

/// The same with weights that are floats, [width, 16] in each panel, and rows [last, width] of floats: products in float32, in the order of
/// columns.
void float_panel_products(PanelFloats type, const void* matrix, int64_t panels, int64_t width, const float* rows, int64_t first, int64_t last,
                          float* out, int64_t stride);
void float_panel_products_reference(PanelFloats type, const void* matrix, int64_t panels, int64_t width, const float* rows, int64_t first,
                                    int64_t last, float* out, int64_t stride);

}  // namespace sememe::kernels
