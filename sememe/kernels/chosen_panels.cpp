#define HWY_WANT_AVX3_DL  // as panels.cpp

#include "sememe/kernels/chosen_panels.h"

#include <algorithm>
#include <cstring>

#include "sememe/base/error.h"

#ifndef SEMEME_CHOSEN_PANELS_ONCE
#define SEMEME_CHOSEN_PANELS_ONCE
namespace sememe::kernels {

/// What a panel is made of, again and again: so many vectors of 16 values of two bytes, then of one, then of four.
struct LaneUnit {
  int64_t halves, bytes, words;
};

}  // namespace sememe::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/chosen_panels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sememe/kernels/panels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

template <class L>
void gather_columns(const ChosenColumns& chosen, const uint8_t* matrix, int64_t first, int64_t last, uint8_t* HWY_RESTRICT to) {
  const Ints ints;
  const Floats floats;
  const auto lanes = static_cast<int64_t>(hn::Lanes(ints));
  constexpr int64_t kHead = kPanelRows * (L::kGroupScales ? 4 : 2);
  constexpr int kColumns = L::kBits == 4 ? 8 : 4;
  const auto byte = hn::Set(ints, 255);
  for (int64_t panel = first; panel < last; ++panel) {
    const uint8_t* const from = matrix + panel * (chosen.width / (32 * L::kUnitBlocks)) * L::kUnitBytes;
    for (const ChosenColumns::Unit& unit : chosen.units) {
      const int64_t column = int64_t{unit.group} * L::kGroup, block = column / 32;
      const uint8_t* const source = from + block / L::kUnitBlocks * L::kUnitBytes;
      const int64_t inner = block % L::kUnitBlocks;
      const uint8_t* const codes = source + L::kUnitBytes - (L::kUnitBlocks - inner) * L::kCodeBytes;
      for (int64_t lane = 0; lane < kPanelRows; lane += lanes) {
        if constexpr (L::kGroupScales) {
          const uint8_t* const at = source + L::kHeadBytes + (inner * L::kGroups + column % 32 / L::kGroup) * kPanelRows + lane;
          hn::StoreU(hn::Mul(load_halves(source + 2 * lane), load_bytes(at)), floats, reinterpret_cast<float*>(to + 4 * lane));
          if constexpr (L::kOffsets)
            hn::StoreU(hn::Mul(load_halves(source + 32 + 2 * lane), load_bytes(at + L::kGroupBytes)), floats,
                       reinterpret_cast<float*>(to + kHead + 4 * lane));
        } else {
          std::memcpy(to + 2 * lane, source + 2 * lane, 2 * lanes);
          if constexpr (L::kOffsets) std::memcpy(to + kHead + 2 * lane, source + 32 + 2 * lane, 2 * lanes);
        }
        IntVector words[8];
        load_codes<L, 0>(codes + 4 * lane, words[0], words[4]);
        load_codes<L, 1>(codes + 4 * lane, words[1], words[5]);
        load_codes<L, 2>(codes + 4 * lane, words[2], words[6]);
        load_codes<L, 3>(codes + 4 * lane, words[3], words[7]);
        HWY_ALIGN int32_t stored[8 * kPanelRows];
        for (int i = 0; i < 8; ++i) hn::Store(words[i], ints, stored + i * kPanelRows);
        for (int64_t v = 0; v < unit.vectors; ++v) {
          const int32_t* const places = chosen.places.data() + (unit.vector + v) * kColumns;
          auto gathered = hn::Zero(ints);
          for (int i = 0; i < kColumns; ++i) {
            if (places[i] < 0) continue;
            const int within = places[i] % 32;
            const auto word = hn::Load(ints, stored + within / 4 * kPanelRows);
            const auto code = hn::And(hn::ShiftRightSame(word, within % 4 * 8), byte);
            gathered = hn::Or(gathered, hn::ShiftLeftSame(code, i < 4 ? 8 * i : 8 * (i - 4) + 4));
          }
          if constexpr (L::kBits == 8 && !kWholeBytes) gathered = hn::Xor(gathered, hn::Set(ints, static_cast<int32_t>(0x80808080u)));
          hn::StoreU(gathered, ints, reinterpret_cast<int32_t*>(to + chosen.head_bytes() + v * 64 + 4 * lane));
        }
      }
      to += chosen.head_bytes() + unit.vectors * 64;
    }
  }
}

/// Puts a panel together from lanes of others, vector by vector. Rows mostly ascend, so that few source vectors hold the lanes of one.
class LaneMerger {
 public:
  /// @param panels, lanes of each of 16 rows; no panel for none
  LaneMerger(const uint8_t* const* panels, const int32_t* lanes) {
    for (int64_t out = 0; out < kPanelRows; out += kLanes) {
      begin_[out / kLanes] = count_;
      for (int64_t row = out; row < out + kLanes;) {
        const uint8_t* const panel = panels[row];
        const int64_t first = lanes[row] / kLanes * kLanes;
        HWY_ALIGN int32_t from[kLanes] = {}, taken[kLanes] = {};
        for (; row < out + kLanes && panels[row] == panel && lanes[row] / kLanes * kLanes == first; ++row)
          from[row - out] = static_cast<int32_t>(lanes[row] - first), taken[row - out] = 1;
        if (panel == nullptr) continue;
        pieces_[count_++] = {panel, first, hn::SetTableIndices(Ints(), from), hn::Ne(hn::Load(Ints(), taken), hn::Zero(Ints()))};
      }
    }
    begin_[kPanelRows / kLanes] = count_;
  }
  /// 16 values of kBytes bytes, at `at` in every panel.
  template <int kBytes>
  HWY_INLINE void copy(int64_t at, uint8_t* HWY_RESTRICT to) const {
    const Ints words;
    const hn::Rebind<uint16_t, Ints> halves;
    const hn::Rebind<uint8_t, Ints> bytes;
    for (int64_t out = 0; out < kPanelRows; out += kLanes) {
      IntVector merged = hn::Zero(words);
      for (int i = begin_[out / kLanes]; i < begin_[out / kLanes + 1]; ++i) {
        const Piece& piece = pieces_[i];
        const uint8_t* const from = piece.panel + at + piece.first * kBytes;
        IntVector values;
        if constexpr (kBytes == 4) values = hn::LoadU(words, reinterpret_cast<const int32_t*>(from));
        if constexpr (kBytes == 2) values = hn::PromoteTo(words, hn::LoadU(halves, reinterpret_cast<const uint16_t*>(from)));
        if constexpr (kBytes == 1) values = hn::PromoteTo(words, hn::LoadU(bytes, from));
        merged = hn::IfThenElse(piece.taken, hn::TableLookupLanes(values, piece.from), merged);
      }
      uint8_t* const there = to + at + out * kBytes;
      if constexpr (kBytes == 4) hn::StoreU(merged, words, reinterpret_cast<int32_t*>(there));
      if constexpr (kBytes == 2) hn::StoreU(hn::DemoteTo(halves, merged), halves, reinterpret_cast<uint16_t*>(there));
      if constexpr (kBytes == 1) hn::StoreU(hn::DemoteTo(bytes, merged), bytes, there);
    }
  }

 private:
  /// Lanes of a vector to write that come from one vector: of a panel the lanes from `first` on.
  struct Piece {
    const uint8_t* panel;
    int64_t first;
    decltype(hn::SetTableIndices(Ints(), static_cast<const int32_t*>(nullptr))) from;
    hn::Mask<Ints> taken;
  };
  int count_ = 0, begin_[kPanelRows / kLanes + 1];
  Piece pieces_[kPanelRows];
};

HWY_INLINE FloatVector load_floats(const uint8_t* bytes) { return hn::LoadU(Floats(), reinterpret_cast<const float*>(bytes)); }

/// Products of kPanels panels at once, which share what is read of the activations, each read once.
template <class L, int kPanels>
HWY_INLINE void column_products(const ChosenColumns& chosen, const uint8_t* HWY_RESTRICT matrix, int64_t panel_bytes,
                                const ChosenActivations& x, float* HWY_RESTRICT out) {
  const Ints ints;
  const Floats floats;
  constexpr int64_t kHead = kPanelRows * (L::kGroupScales ? 4 : 2), kBothHeads = kHead * (L::kOffsets ? 2 : 1);
  constexpr bool kSigned = L::kBits == 8 && !kWholeBytes;
  constexpr int kZero = kSigned ? 0 : L::kZero, kVectors = kPanels * kVectorsOfPanel;
  // Vector i is of panel i / kVectorsOfPanel.
  const auto panel_of = [&](int i) { return i / kVectorsOfPanel * panel_bytes; };
  constexpr auto lane_of = [](int i) { return int64_t{i % kVectorsOfPanel * kLanes}; };
  FloatVector sums[kVectors];
  for (int i = 0; i < kVectors; ++i) sums[i] = hn::Zero(floats);
  const int8_t* HWY_RESTRICT codes = x.codes.data();
  const size_t units = chosen.units.size();
  for (size_t u = 0; u < units; ++u) {
    const int64_t vectors = chosen.units[u].vectors;
    const auto beginning = hn::Set(ints, -kZero * x.sums[u]);
    IntVector products[kVectors];
    for (int i = 0; i < kVectors; ++i) products[i] = beginning;
    for (int64_t v = 0; v < vectors; ++v) {
      int32_t a, b = 0;
      std::memcpy(&a, codes, 4);
      if constexpr (L::kBits == 4) std::memcpy(&b, codes + 4, 4);
      codes += L::kBits == 4 ? 8 : 4;
      for (int i = 0; i < kVectors; ++i) {
        auto vector = hn::LoadU(ints, reinterpret_cast<const int32_t*>(matrix + panel_of(i) + kBothHeads + v * 64 + 4 * lane_of(i)));
        if constexpr (L::kBits == 4) {
          const auto nibble = hn::Set(ints, 0x0f0f0f0f);
          products[i] = add_products_of_four<false>(products[i], hn::And(vector, nibble), a);
          products[i] = add_products_of_four<false>(products[i], hn::And(shifted<-4>(vector), nibble), b);
        } else {
          if constexpr (kSigned) vector = hn::Xor(vector, hn::Set(ints, static_cast<int32_t>(0x80808080u)));
          products[i] = add_products_of_four<kSigned>(products[i], vector, a);
        }
      }
    }
    const auto x_scale = hn::Set(floats, x.scales[u]);
    const auto x_offset = hn::Set(floats, x.scales[u] * static_cast<float>(x.sums[u]));
    for (int i = 0; i < kVectors; ++i) {
      const uint8_t* const head = matrix + panel_of(i);
      const auto load = [&](const uint8_t* from) HWY_ATTR {
        if constexpr (L::kGroupScales) return load_floats(from + 4 * lane_of(i));
        return load_halves(from + 2 * lane_of(i));
      };
      sums[i] = hn::MulAdd(hn::Mul(load(head), x_scale), hn::ConvertTo(floats, products[i]), sums[i]);
      if constexpr (L::kOffsets) sums[i] = hn::MulAdd(load(head + kHead), x_offset, sums[i]);
    }
    matrix += kBothHeads + vectors * 64;
  }
  for (int i = 0; i < kVectors; ++i) hn::StoreU(sums[i], floats, out + i / kVectorsOfPanel * kPanelRows + lane_of(i));
}

template <class L>
void all_column_products(const ChosenColumns& chosen, const uint8_t* matrix, int64_t panels, const ChosenActivations& x, float* out) {
  constexpr int kTogether = kVectorsOfPanel <= 2 ? 2 : 1;  // as many as have room in the registers
  const int64_t bytes = chosen.panel_bytes();
  int64_t panel = 0;
  for (; panel + kTogether <= panels; panel += kTogether)
    column_products<L, kTogether>(chosen, matrix + panel * bytes, bytes, x, out + panel * kPanelRows);
  if (panel < panels) column_products<L, 1>(chosen, matrix + panel * bytes, bytes, x, out + panel * kPanelRows);
}

}  // namespace

/// One panel of 16 rows: of each the panel that it is in, null for none, and its lane there.
void gather_rows_of_panel(const LaneUnit& unit, const uint8_t* const* panels, const int32_t* lanes, int64_t panel_bytes, uint8_t* HWY_RESTRICT to) {
  const LaneMerger merger(panels, lanes);
  for (int64_t at = 0; at < panel_bytes;) {
    for (int64_t i = 0; i < unit.halves; ++i, at += 2 * kPanelRows) merger.copy<2>(at, to);
    for (int64_t i = 0; i < unit.bytes; ++i, at += kPanelRows) merger.copy<1>(at, to);
    for (int64_t i = 0; i < unit.words; ++i, at += 4 * kPanelRows) merger.copy<4>(at, to);
  }
}

using GatherFunction = void (*)(const ChosenColumns& chosen, const uint8_t* matrix, int64_t first, int64_t last, uint8_t* to);
GatherFunction gather_columns_of(const PanelLayout& layout) {
  return choose_by_layout(layout, []<class L>() -> GatherFunction { return gather_columns<L>; });
}

using ColumnProductsFunction = void (*)(const ChosenColumns& chosen, const uint8_t* matrix, int64_t panels, const ChosenActivations& x, float* out);
ColumnProductsFunction column_products_of(const PanelLayout& layout) {
  return choose_by_layout(layout, []<class L>() -> ColumnProductsFunction { return all_column_products<L>; });
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(gather_rows_of_panel);
HWY_EXPORT(gather_columns_of);
HWY_EXPORT(column_products_of);

namespace {

/// Writes the panels first <= p < last of the rows, whose sources are panels of `panel_bytes`.
void gather_panels(const LaneUnit& unit, const uint8_t* matrix, int64_t panel_bytes, std::span<const int32_t> rows, int64_t first, int64_t last,
                   uint8_t* to) {
  for (int64_t panel = first; panel < last; ++panel, to += panel_bytes) {
    const uint8_t* panels[kPanelRows] = {};
    int32_t lanes[kPanelRows] = {};
    for (int64_t row = 0; row < kPanelRows && panel * kPanelRows + row < static_cast<int64_t>(rows.size()); ++row) {
      const int32_t source = rows[panel * kPanelRows + row];
      panels[row] = matrix + source / kPanelRows * panel_bytes, lanes[row] = static_cast<int32_t>(source % kPanelRows);
    }
    HWY_DYNAMIC_DISPATCH(gather_rows_of_panel)(unit, panels, lanes, panel_bytes, to);
  }
}

}  // namespace

void gather_panel_rows(const PanelLayout& layout, const uint8_t* matrix, int64_t width, std::span<const int32_t> rows, int64_t first,
                       int64_t last, uint8_t* to) {
  const int64_t heads = layout.offsets ? 2 : 1, groups = layout.group_scales ? layout.unit_columns() / layout.group * heads : 0;
  const int64_t codes = layout.unit_bytes() - (2 * heads + groups) * kPanelRows;
  gather_panels({heads, groups, codes / (4 * kPanelRows)}, matrix, layout.panel_bytes(width), rows, first, last, to);
}

void gather_float_panel_rows(int64_t weight_bytes, const uint8_t* matrix, int64_t width, std::span<const int32_t> rows, int64_t first,
                             int64_t last, uint8_t* to) {
  gather_panels({weight_bytes == 2, 0, weight_bytes == 4}, matrix, width * weight_bytes * kPanelRows, rows, first, last, to);
}

ChosenColumns::ChosenColumns(const PanelLayout& layout, int64_t width, std::span<const int32_t> columns) : layout(layout), width(width) {
  const int64_t at_once = columns_of_vector();
  for (size_t i = 0; i < columns.size();) {
    const auto group = static_cast<int32_t>(columns[i] / layout.group);
    const auto begin = static_cast<int32_t>(places.size() / at_once);
    for (; i < columns.size() && columns[i] / layout.group == group; ++i) places.push_back(columns[i]);
    while (places.size() % at_once != 0) places.push_back(-1);
    units.push_back({group, begin, static_cast<int32_t>(places.size() / at_once) - begin});
  }
}

void gather_panel_columns(const ChosenColumns& chosen, const uint8_t* matrix, int64_t first, int64_t last, uint8_t* to) {
  const auto gather = HWY_DYNAMIC_DISPATCH(gather_columns_of)(chosen.layout);
  if (gather == nullptr) fail("columns of weights of {} bits in groups of {} cannot be chosen", chosen.layout.bits, chosen.layout.group);
  gather(chosen, matrix, first, last, to);
}

void ChosenActivations::resize(int64_t width) {
  codes.resize(width), scales.resize(width / QuantizedRows::kHalf), sums.resize(width / QuantizedRows::kHalf);
}

void take_columns(const ChosenColumns& chosen, const QuantizedRows& rows, int64_t row, int64_t first, int64_t last, ChosenActivations& taken) {
  const int64_t at_once = chosen.columns_of_vector(), halves = chosen.layout.group / QuantizedRows::kHalf;
  const int8_t* const codes = rows.codes.data() + row * rows.width;
  for (int64_t u = first; u < last; ++u) {
    const ChosenColumns::Unit& unit = chosen.units[u];
    for (int64_t i = unit.vector * at_once; i < (unit.vector + unit.vectors) * at_once; ++i)
      taken.codes[i] = chosen.places[i] < 0 ? int8_t{0} : codes[chosen.places[i]];
    taken.scales[u] = rows.scales[(row * rows.width + int64_t{unit.group} * chosen.layout.group) / QuantizedRows::kBlock];
    const int32_t* const sums = rows.sums.data() + row * rows.width / QuantizedRows::kHalf + unit.group * halves;
    taken.sums[u] = halves == 1 ? sums[0] : sums[0] + sums[1];
  }
}

void chosen_column_products(const ChosenColumns& chosen, const uint8_t* matrix, int64_t panels, const ChosenActivations& x, float* out) {
  const auto products = HWY_DYNAMIC_DISPATCH(column_products_of)(chosen.layout);
  if (products == nullptr) fail("there is no product with columns of {} bits in groups of {}", chosen.layout.bits, chosen.layout.group);
  products(chosen, matrix, panels, x, out);
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
