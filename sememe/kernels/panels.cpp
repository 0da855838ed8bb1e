// The only kernels that VNNI serves, and Highway leaves it out unless asked.
#define HWY_WANT_AVX3_DL

#include "sememe/kernels/panels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sememe/base/error.h"
#include "sememe/kernels/float_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/panels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sememe/kernels/panels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

namespace {

// Rows of activations that stay in the cache while a thread's panels pass by.
constexpr int64_t kTokensAtOnce = 128;

/// Products of kVectors vectors of rows of a panel, from row `lane` on, with kTokens rows. With one row of activations all vectors are taken at once,
/// so that the panel passes by once; with several, whose sums fill the registers, one at a time.
template <class L, int kTokens, int kVectors>
HWY_INLINE void products(const uint8_t* HWY_RESTRICT panel, int64_t lane, int64_t blocks, const int8_t* HWY_RESTRICT x,
                         const float* HWY_RESTRICT x_scales, const int32_t* HWY_RESTRICT x_sums, float* HWY_RESTRICT out, int64_t stride) {
  const Ints ints;
  const Floats floats;
  constexpr bool kSigned = L::kBits == 8 && !kWholeBytes;
  constexpr int kZero = kSigned ? 0 : L::kZero;
  FloatVector sums[kVectors][kTokens];
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t) sums[v][t] = hn::Zero(floats);
  for (int64_t unit = 0; unit < blocks / L::kUnitBlocks; ++unit, panel += L::kUnitBytes) {
    FloatVector scale[kVectors], offset[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = offset[v] = load_halves(panel + 2 * (lane + v * kLanes));
      if constexpr (L::kOffsets) offset[v] = load_halves(panel + 32 + 2 * (lane + v * kLanes));
    }
    for (int64_t inner = 0; inner < L::kUnitBlocks; ++inner) {
      const int64_t block = unit * L::kUnitBlocks + inner;
      for (int v = 0; v < kVectors; ++v) {
        const uint8_t* const group_scales = panel + L::kHeadBytes + lane + v * kLanes;
        const uint8_t* const codes = panel + L::kUnitBytes - (L::kUnitBlocks - inner) * L::kCodeBytes + 4 * (lane + v * kLanes);
        IntVector low[4], high[4];
        load_codes<L, 0>(codes, low[0], high[0]);
        load_codes<L, 1>(codes, low[1], high[1]);
        load_codes<L, 2>(codes, low[2], high[2]);
        load_codes<L, 3>(codes, low[3], high[3]);
        FloatVector scale_now[L::kGroups], offset_now[L::kGroups];
        for (int64_t group = 0; group < L::kGroups; ++group) {
          scale_now[group] = scale[v], offset_now[group] = offset[v];
          if constexpr (L::kGroupScales) {
            const uint8_t* const at = group_scales + (inner * L::kGroups + group) * kPanelRows;
            scale_now[group] = hn::Mul(scale[v], load_bytes(at));
            if constexpr (L::kOffsets) offset_now[group] = hn::Mul(offset[v], load_bytes(at + L::kGroupBytes));
          }
        }
        for (int t = 0; t < kTokens; ++t) {
          const int8_t* const x_now = x + t * blocks * 32 + block * 32;
          const int32_t* const x_sum = x_sums + (t * blocks + block) * 2;
          const float x_scale = x_scales[t * blocks + block];
          FloatVector& sum = sums[v][t];
          IntVector first = hn::Set(ints, -kZero * x_sum[0]), second = hn::Set(ints, -kZero * x_sum[1]);
          for (int j = 0; j < 4; ++j) {
            int32_t a, b;
            std::memcpy(&a, x_now + 4 * j, 4);
            std::memcpy(&b, x_now + 16 + 4 * j, 4);
            first = add_products_of_four<kSigned>(first, low[j], a);
            second = add_products_of_four<kSigned>(second, high[j], b);
          }
          const auto x_scale_now = hn::Set(floats, x_scale);
          if constexpr (L::kGroups == 1) {
            const auto whole = hn::ConvertTo(floats, hn::Add(first, second));
            sum = hn::MulAdd(hn::Mul(scale_now[0], x_scale_now), whole, sum);
            if constexpr (L::kOffsets)
              sum = hn::MulAdd(offset_now[0], hn::Set(floats, x_scale * static_cast<float>(x_sum[0] + x_sum[1])), sum);
          } else {
            sum = hn::MulAdd(hn::Mul(scale_now[0], x_scale_now), hn::ConvertTo(floats, first), sum);
            if constexpr (L::kOffsets) sum = hn::MulAdd(offset_now[0], hn::Set(floats, x_scale * static_cast<float>(x_sum[0])), sum);
            sum = hn::MulAdd(hn::Mul(scale_now[1], x_scale_now), hn::ConvertTo(floats, second), sum);
            if constexpr (L::kOffsets) sum = hn::MulAdd(offset_now[1], hn::Set(floats, x_scale * static_cast<float>(x_sum[1])), sum);
          }
        }
      }
    }
  }
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t) hn::StoreU(sums[v][t], floats, out + t * stride + v * kLanes);
}

template <class L>
void all_products(const uint8_t* matrix, int64_t panels, const QuantizedRows& rows, int64_t first, int64_t last, float* out, int64_t stride) {
  const int64_t blocks = rows.width / 32, panel_bytes = blocks / L::kUnitBlocks * L::kUnitBytes;
  for (int64_t from = first; from < last; from += kTokensAtOnce) {
    const int64_t to = std::min(last, from + kTokensAtOnce), fours = from + (to - from) / 4 * 4;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const auto tokens = [&]<int kTokens, int kVectors>(int64_t t, int64_t lane) HWY_ATTR {
        products<L, kTokens, kVectors>(matrix + panel * panel_bytes, lane, blocks, rows.codes.data() + t * rows.width,
                                       rows.scales.data() + t * blocks, rows.sums.data() + t * blocks * 2,
                                       out + t * stride + panel * kPanelRows + lane, stride);
      };
      for (int64_t lane = 0; lane < kPanelRows && fours > from; lane += kLanes) {
        int64_t t = from;
        for (; t + 8 <= fours; t += 8) tokens.template operator()<8, 1>(t, lane);
        if (t < fours) tokens.template operator()<4, 1>(t, lane);
      }
      for (int64_t t = fours; t < to; ++t) tokens.template operator()<1, kVectorsOfPanel>(t, 0);
    }
  }
}

template <PanelFloats kType>
HWY_INLINE FloatVector load_weights(const void* matrix, int64_t at) {
  const Floats floats;
  if constexpr (kType == PanelFloats::kFloat32) {
    return hn::LoadU(floats, static_cast<const float*>(matrix) + at);
  } else if constexpr (kType == PanelFloats::kFloat16) {
    return load_halves(static_cast<const uint8_t*>(matrix) + 2 * at);
  } else {
    const hn::Rebind<uint16_t, Floats> halves;
    const hn::Rebind<uint32_t, Floats> words;
    return hn::BitCast(floats, hn::ShiftLeft<16>(hn::PromoteTo(words, hn::LoadU(halves, static_cast<const uint16_t*>(matrix) + at))));
  }
}

/// @param at where the panel's first column has row `lane`
template <PanelFloats kType, int kTokens, int kVectors>
HWY_INLINE void float_products(const void* matrix, int64_t at, int64_t width, const float* HWY_RESTRICT rows, float* HWY_RESTRICT out,
                               int64_t stride) {
  const Floats floats;
  FloatVector sums[kVectors][kTokens];
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t) sums[v][t] = hn::Zero(floats);
  for (int64_t column = 0; column < width; ++column) {
    for (int v = 0; v < kVectors; ++v) {
      const FloatVector weights = load_weights<kType>(matrix, at + column * kPanelRows + v * kLanes);
      for (int t = 0; t < kTokens; ++t) sums[v][t] = hn::MulAdd(weights, hn::Set(floats, rows[t * width + column]), sums[v][t]);
    }
  }
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t) hn::StoreU(sums[v][t], floats, out + t * stride + v * kLanes);
}

template <PanelFloats kType>
void all_float_products(const void* matrix, int64_t panels, int64_t width, const float* rows, int64_t first, int64_t last, float* out,
                        int64_t stride) {
  const int64_t fours = first + (last - first) / 4 * 4;
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t at = panel * width * kPanelRows;
    float* const to = out + panel * kPanelRows;
    for (int64_t lane = 0; lane < kPanelRows && fours > first; lane += kLanes) {
      int64_t t = first;
      for (; t + 8 <= fours; t += 8) float_products<kType, 8, 1>(matrix, at + lane, width, rows + t * width, to + t * stride + lane, stride);
      if (t < fours) float_products<kType, 4, 1>(matrix, at + lane, width, rows + t * width, to + t * stride + lane, stride);
    }
    for (int64_t t = fours; t < last; ++t)
      float_products<kType, 1, kVectorsOfPanel>(matrix, at, width, rows + t * width, to + t * stride, stride);
  }
}

}  // namespace

using ProductsFunction = void (*)(const uint8_t* matrix, int64_t panels, const QuantizedRows& rows, int64_t first, int64_t last, float* out,
                                  int64_t stride);

ProductsFunction products_of(const PanelLayout& layout) {
  return choose_by_layout(layout, []<class L>() -> ProductsFunction { return all_products<L>; });
}

void float_panel_products_vector(PanelFloats type, const void* matrix, int64_t panels, int64_t width, const float* rows, int64_t first,
                                 int64_t last, float* out, int64_t stride) {
  const auto products = type == PanelFloats::kFloat32   ? all_float_products<PanelFloats::kFloat32>
                        : type == PanelFloats::kFloat16 ? all_float_products<PanelFloats::kFloat16>
                                                        : all_float_products<PanelFloats::kBfloat16>;
  products(matrix, panels, width, rows, first, last, out, stride);
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(products_of);
HWY_EXPORT(float_panel_products_vector);

namespace {

constexpr int64_t kColumns = 32;

float widened(uint16_t half) {
  float value;
  widen_float16_reference(reinterpret_cast<const std::byte*>(&half), 1, &value);
  return value;
}

int64_t head_bytes(const PanelLayout& layout) { return 2 * kPanelRows * (layout.offsets ? 2 : 1); }
int64_t groups_of_unit(const PanelLayout& layout) { return layout.group_scales ? layout.unit_columns() / layout.group : 0; }
int64_t code_bytes(const PanelLayout& layout) { return kPanelRows * kColumns / 8 * layout.bits; }

/// Calls visit(byte, shift, bits, first bit of the code) for each part of the code of a row and column, `codes` being those of its 32 columns.
template <class Byte, class Visit>
void for_each_part(const PanelLayout& layout, Byte* codes, int64_t row, int64_t column, const Visit& visit) {
  const int64_t j = column % 16 / 4, high = column / 16, in_vector = 4 * row + column % 4;
  if (layout.bits == 8) return visit(codes[64 * (j + 4 * high) + in_vector], 0, 8, 0);
  visit(codes[64 * j + in_vector], 4 * high, 4, 0);
  if (layout.bits == 5) visit(codes[64 * 4 + in_vector], 4 * high + j, 1, 4);
  if (layout.bits == 6) visit(codes[64 * (4 + high) + in_vector], 2 * j, 2, 4);
}

}  // namespace

int64_t PanelLayout::unit_bytes() const {
  return head_bytes(*this) + groups_of_unit(*this) * kPanelRows * (offsets ? 2 : 1) + unit_columns() / kColumns * code_bytes(*this);
}

bool has_kernel(const PanelLayout& layout) { return HWY_DYNAMIC_DISPATCH(products_of)(layout) != nullptr; }

void pack_unit(const PanelLayout& layout, const PanelUnit& unit, uint8_t* bytes) {
  std::memset(bytes, 0, layout.unit_bytes());
  const auto put = [&](const void* from, int64_t count) {
    std::memcpy(bytes, from, count);
    bytes += count;
  };
  put(unit.scale, sizeof(unit.scale));
  if (layout.offsets) put(unit.offset, sizeof(unit.offset));
  put(unit.group_scales, groups_of_unit(layout) * kPanelRows);
  if (layout.offsets) put(unit.group_offsets, groups_of_unit(layout) * kPanelRows);
  for (int64_t block = 0; block < layout.unit_columns() / kColumns; ++block, bytes += code_bytes(layout))
    for (int64_t row = 0; row < kPanelRows; ++row)
      for (int64_t column = 0; column < kColumns; ++column)
        for_each_part(layout, bytes, row, column, [&](uint8_t& byte, int64_t shift, int64_t bits, int64_t from) {
          byte |= static_cast<uint8_t>((unit.codes[row][kColumns * block + column] >> from & ((1 << bits) - 1)) << shift);
        });
}

void panel_products(const PanelLayout& layout, const uint8_t* matrix, int64_t panels, const QuantizedRows& rows, int64_t first, int64_t last,
                    float* out, int64_t stride) {
  const auto products = HWY_DYNAMIC_DISPATCH(products_of)(layout);
  if (products == nullptr)
    fail("there is no kernel for weights of {} bits in groups of {} about {}", layout.bits, layout.group, layout.zero);
  products(matrix, panels, rows, first, last, out, stride);
}

void panel_products_reference(const PanelLayout& layout, const uint8_t* matrix, int64_t panels, const QuantizedRows& rows, int64_t first,
                              int64_t last, float* out, int64_t stride) {
  const int64_t groups = groups_of_unit(layout);
  for (int64_t t = first; t < last; ++t)
    for (int64_t i = 0; i < panels * kPanelRows; ++i) {
      const uint8_t* const panel = matrix + i / kPanelRows * layout.panel_bytes(rows.width);
      const int64_t row = i % kPanelRows;
      float sum = 0.0f;
      for (int64_t column = 0; column < rows.width; column += layout.group) {
        const uint8_t* const unit = panel + column / layout.unit_columns() * layout.unit_bytes();
        const int64_t within = column % layout.unit_columns(), group = within / layout.group;
        const uint8_t* const group_scales = unit + head_bytes(layout) + group * kPanelRows + row;
        const uint8_t* const codes = unit + layout.unit_bytes() - (layout.unit_columns() - within / kColumns * kColumns) / kColumns * code_bytes(layout);
        uint16_t half;
        std::memcpy(&half, unit + 2 * row, 2);
        float scale = widened(half), offset = 0.0f;
        if (layout.offsets) {
          std::memcpy(&half, unit + 2 * kPanelRows + 2 * row, 2);
          offset = widened(half);
        }
        if (layout.group_scales) {
          scale *= static_cast<int8_t>(group_scales[0]);
          if (layout.offsets) offset *= static_cast<int8_t>(group_scales[groups * kPanelRows]);
        }
        int32_t product = 0, x_sum = 0;
        for (int64_t k = 0; k < layout.group; ++k) {
          int code = 0;
          for_each_part(layout, codes, row, within % kColumns + k, [&](uint8_t byte, int64_t shift, int64_t bits, int64_t from) {
            code |= (byte >> shift & ((1 << bits) - 1)) << from;
          });
          const int8_t x = rows.codes[t * rows.width + column + k];
          product += (code - layout.zero) * x, x_sum += x;
        }
        const float x_scale = rows.scales[(t * rows.width + column) / kColumns];
        sum = std::fma(scale * x_scale, static_cast<float>(product), sum);
        if (layout.offsets) sum = std::fma(offset, x_scale * static_cast<float>(x_sum), sum);
      }
      out[t * stride + i] = sum;
    }
}

void float_panel_products(PanelFloats type, const void* matrix, int64_t panels, int64_t width, const float* rows, int64_t first, int64_t last,
                          float* out, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(float_panel_products_vector)(type, matrix, panels, width, rows, first, last, out, stride);
}

void float_panel_products_reference(PanelFloats type, const void* matrix, int64_t panels, int64_t width, const float* rows, int64_t first,
                                    int64_t last, float* out, int64_t stride) {
  for (int64_t t = first; t < last; ++t)
    for (int64_t i = 0; i < panels * kPanelRows; ++i) {
      float sum = 0.0f;
      for (int64_t column = 0; column < width; ++column) {
        const int64_t at = (i / kPanelRows * width + column) * kPanelRows + i % kPanelRows;
        float weight;
        if (type == PanelFloats::kFloat32) {
          weight = static_cast<const float*>(matrix)[at];
        } else if (const uint16_t half = static_cast<const uint16_t*>(matrix)[at]; type == PanelFloats::kFloat16) {
          weight = widened(half);
        } else {
          const uint32_t bits = uint32_t{half} << 16;
          std::memcpy(&weight, &bits, 4);
        }
        sum = std::fma(weight, rows[t * width + column], sum);
      }
      out[t * stride + i] = sum;
    }
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
