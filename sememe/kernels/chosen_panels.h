#pragma once
// Some of the rows, or some of the columns, of a quantised matrix in panels (kernels/panels.h): what is left to read of an MLP's matrices when
// most of its neurons are left out. Nothing is rounded again, so products are those of the whole matrix to the bit.
//
// Rows keep the format of panels. Columns have one of their own, because a scale belongs to a group of the whole matrix's columns: a panel is a
// run of units, one for each group from which columns were chosen,
//   scale [16] | offset [16], if any | vectors of 64 bytes of codes
// Scales and offsets are float16, or float32 where they are products of a block's and a group's. A vector has four columns of each of the 16
// rows side by side, one a byte; codes of 4 bits come eight columns a vector, the second four in the high halves of the bytes.

#include <cstdint>
#include <span>
#include <vector>

#include "sememe/kernels/panels.h"

namespace sememe::kernels {

/// Writes the panels first <= p < last of the matrix that has the rows `rows` of a whole one, in that order. Lanes past them are zeros.
/// @param matrix panels of the layout and of `width` columns
/// @param to where panel `first` goes, (last - first) * layout.panel_bytes(width) bytes
void gather_panel_rows(const PanelLayout& layout, const uint8_t* matrix, int64_t width, std::span<const int32_t> rows, int64_t first,
                       int64_t last, uint8_t* to);
/// The same of weights that are floats, [width, 16] of `weight_bytes` each in a panel.
void gather_float_panel_rows(int64_t weight_bytes, const uint8_t* matrix, int64_t width, std::span<const int32_t> rows, int64_t first,
                             int64_t last, uint8_t* to);

/// Which columns, and where a panel holds them.
struct ChosenColumns {
  struct Unit {
    int32_t group;    ///< of the whole matrix's columns
    int32_t vector;   ///< its first, counted from the panel's first
    int32_t vectors;
  };

  ChosenColumns() = default;
  /// @param columns ascending, below `width`
  ChosenColumns(const PanelLayout& layout, int64_t width, std::span<const int32_t> columns);

  int64_t columns_of_vector() const { return layout.bits == 4 ? 8 : 4; }
  int64_t head_bytes() const { return kPanelRows * (layout.group_scales ? 4 : 2) * (layout.offsets ? 2 : 1); }
  int64_t panel_bytes() const { return static_cast<int64_t>(units.size()) * head_bytes() + static_cast<int64_t>(places.size()) / columns_of_vector() * 64; }

  PanelLayout layout;
  int64_t width = 0;           ///< of the whole matrix
  std::vector<Unit> units;
  std::vector<int32_t> places;  ///< [vectors, columns of a vector], the column of each; -1 where there is none
};

/// Writes panels first <= p < last with the chosen columns alone.
/// @param matrix panels of chosen.layout and of chosen.width columns
/// @param to where panel `first` goes
void gather_panel_columns(const ChosenColumns& chosen, const uint8_t* matrix, int64_t first, int64_t last, uint8_t* to);

/// A row of activations at the chosen columns.
struct ChosenActivations {
  std::vector<int8_t> codes;   ///< as ChosenColumns::places; 0 where there is no column
  std::vector<float> scales;   ///< [units]
  std::vector<int32_t> sums;   ///< [units], of the codes

  /// Room for any columns of `width`.
  void resize(int64_t width);
};

/// Takes units first <= u < last from row `row`, which is zero at all other columns.
void take_columns(const ChosenColumns& chosen, const QuantizedRows& rows, int64_t row, int64_t first, int64_t last, ChosenActivations& taken);

/// out[16 p + r] = row 16 p + r . x for each of `panels` panels: to the bit what panel_products() gives of the whole matrix and the whole row.
void chosen_column_products(const ChosenColumns& chosen, const uint8_t* matrix, int64_t panels, const ChosenActivations& x, float* out);

}  // namespace sememe::kernels
