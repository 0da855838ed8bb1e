// Vectors of panels' codes and scales, for the kernels that read panels (kernels/panels.h). Included once for each instruction set, by sources
// that define HWY_WANT_AVX3_DL.

#include <cstring>

#include "sememe/kernels/panels.h"

#if defined(SEMEME_KERNELS_PANELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEMEME_KERNELS_PANELS_INL_H_
#undef SEMEME_KERNELS_PANELS_INL_H_
#else
#define SEMEME_KERNELS_PANELS_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using Ints = hn::CappedTag<int32_t, kPanelRows>;
using Floats = hn::Rebind<float, Ints>;
using IntVector = hn::Vec<Ints>;
constexpr int kLanes = hn::MaxLanes(Ints());
constexpr int kVectorsOfPanel = kPanelRows / kLanes;  ///< of rows
using FloatVector = hn::Vec<Floats>;

template <int kBits_, int kGroup_, int kZero_, bool kOffsets_, bool kGroupScales_>
struct Layout {
  static constexpr int kBits = kBits_, kGroup = kGroup_, kZero = kZero_;
  static constexpr bool kOffsets = kOffsets_, kGroupScales = kGroupScales_;
  static constexpr int64_t kGroups = 32 / kGroup;                        // in 32 columns
  static constexpr int64_t kUnitBlocks = kGroupScales ? 8 : 1;           // of 32 columns
  static constexpr int64_t kHeadBytes = 32 * (kOffsets ? 2 : 1);
  static constexpr int64_t kGroupBytes = kGroupScales ? kPanelRows * kGroups * kUnitBlocks : 0;  // of scales, and of offsets
  static constexpr int64_t kCodeBytes = 2 * 32 * kBits;                  // of 16 rows, 32 columns
  static constexpr int64_t kUnitBytes = kHeadBytes + kGroupBytes * (kOffsets ? 2 : 1) + kUnitBlocks * kCodeBytes;
};

#define SEMEME_X86_BYTES (HWY_TARGET <= HWY_SSSE3 && HWY_ARCH_X86)

/// Whether products of whole bytes with signed ones are exact in one step. Before VNNI, 255 x 127 twice does not fit 16 bits.
constexpr bool kWholeBytes = HWY_TARGET <= HWY_AVX3_DL || !SEMEME_X86_BYTES;

/// sum + the products of the four bytes of each lane: of unsigned `codes` with the four signed bytes of `four`. Where codes have 8 bits and
/// kWholeBytes does not hold, they are signed, less 128.
template <bool kSigned>
HWY_INLINE IntVector add_products_of_four(IntVector sum, IntVector codes, int32_t four) {
  const Ints ints;
#if SEMEME_X86_BYTES && HWY_TARGET <= HWY_AVX3_DL
  // Highway's target of this name runs only where there is VNNI, but does not let the compiler use it.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(codes.raw), "v"(_mm512_set1_epi32(four)));
  return sum;
#elif SEMEME_X86_BYTES && HWY_TARGET <= HWY_AVX3
  __m512i x = _mm512_set1_epi32(four), unsigned_codes = codes.raw;
  if constexpr (kSigned) {
    x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(codes.raw), _mm512_setzero_si512(), x);
    unsigned_codes = _mm512_abs_epi8(codes.raw);
  }
  return IntVector{_mm512_add_epi32(sum.raw, _mm512_madd_epi16(_mm512_maddubs_epi16(unsigned_codes, x), _mm512_set1_epi16(1)))};
#elif SEMEME_X86_BYTES && HWY_TARGET <= HWY_AVX2
  __m256i x = _mm256_set1_epi32(four), unsigned_codes = codes.raw;
  if constexpr (kSigned) x = _mm256_sign_epi8(x, codes.raw), unsigned_codes = _mm256_abs_epi8(codes.raw);
  return IntVector{_mm256_add_epi32(sum.raw, _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned_codes, x), _mm256_set1_epi16(1)))};
#elif SEMEME_X86_BYTES
  __m128i x = _mm_set1_epi32(four), unsigned_codes = codes.raw;
  if constexpr (kSigned) x = _mm_sign_epi8(x, codes.raw), unsigned_codes = _mm_abs_epi8(codes.raw);
  return IntVector{_mm_add_epi32(sum.raw, _mm_madd_epi16(_mm_maddubs_epi16(unsigned_codes, x), _mm_set1_epi16(1)))};
#else
  const auto byte = hn::Set(ints, 255);
  const auto part = [&](int i) HWY_ATTR { return hn::Set(ints, static_cast<int8_t>(static_cast<uint32_t>(four) >> (8 * i))); };
  sum = hn::Add(sum, hn::Mul(hn::And(codes, byte), part(0)));
  sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<8>(codes), byte), part(1)));
  sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<16>(codes), byte), part(2)));
  return hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<24>(codes), byte), part(3)));
#endif
}

/// v shifted to the left by kBits, to the right if negative.
template <int kBits>
HWY_INLINE IntVector shifted(IntVector v) {
  const hn::Repartition<uint32_t, Ints> words;
  if constexpr (kBits == 0) return v;
  if constexpr (kBits > 0) return hn::ShiftLeft<kBits>(v);
  if constexpr (kBits < 0) return hn::BitCast(Ints(), hn::ShiftRight<-kBits>(hn::BitCast(words, v)));
}

/// The bits kFrom and on, kCount of them, of each byte, at bit 4 on.
template <int kFrom, int kCount>
HWY_INLINE IntVector high_bits(IntVector plane) {
  constexpr int32_t kMask = ((1 << kCount) - 1) << kFrom;
  return shifted<4 - kFrom>(hn::And(plane, hn::Set(Ints(), static_cast<int32_t>(kMask * 0x01010101u))));
}

/// Vector j of the codes of the first (low) and of the last (high) 16 of 32 columns.
template <class L, int j>
HWY_INLINE void load_codes(const uint8_t* HWY_RESTRICT codes, IntVector& low, IntVector& high) {
  const Ints ints;
  const auto load = [&](int64_t vector) HWY_ATTR { return hn::LoadU(ints, reinterpret_cast<const int32_t*>(codes + 64 * vector)); };
  if constexpr (L::kBits == 8) {
    low = load(j), high = load(j + 4);
    if constexpr (!kWholeBytes) {
      const auto sign = hn::Set(ints, static_cast<int32_t>(0x80808080u));
      low = hn::Xor(low, sign), high = hn::Xor(high, sign);
    }
  } else {
    const auto nibble = hn::Set(ints, 0x0f0f0f0f);
    const IntVector both = load(j);
    low = hn::And(both, nibble), high = hn::And(shifted<-4>(both), nibble);
    if constexpr (L::kBits == 5) {
      const IntVector plane = load(4);
      low = hn::Or(low, high_bits<j, 1>(plane)), high = hn::Or(high, high_bits<4 + j, 1>(plane));
    } else if constexpr (L::kBits == 6) {
      low = hn::Or(low, high_bits<2 * j, 2>(load(4))), high = hn::Or(high, high_bits<2 * j, 2>(load(5)));
    }
  }
}

HWY_INLINE FloatVector load_halves(const uint8_t* bytes) {
  const Floats floats;
  const hn::Rebind<hwy::float16_t, Floats> halves;
  return hn::PromoteTo(floats, hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(bytes)));
}

HWY_INLINE FloatVector load_bytes(const uint8_t* bytes) {
  const Floats floats;
  const hn::Rebind<int8_t, Floats> small;
  return hn::ConvertTo(floats, hn::PromoteTo(Ints(), hn::LoadU(small, reinterpret_cast<const int8_t*>(bytes))));
}

/// What choose.operator()<L>() gives for the layout; a default value where none has a kernel.
template <class... L, class Choose>
auto choose_among(const PanelLayout& layout, const Choose& choose) {
  using Chosen = std::common_type_t<decltype(choose.template operator()<L>())...>;
  Chosen found = {};
  ((layout == PanelLayout{L::kBits, L::kGroup, L::kZero, L::kOffsets, L::kGroupScales} ? void(found = choose.template operator()<L>()) : void()), ...);
  return found;
}

template <class Choose>
auto choose_by_layout(const PanelLayout& layout, const Choose& choose) {
  return choose_among<Layout<4, 32, 8, false, false>,    // Q4_0
                      Layout<4, 32, 0, true, false>,     // Q4_1
                      Layout<5, 32, 16, false, false>,   // Q5_0
                      Layout<5, 32, 0, true, false>,     // Q5_1
                      Layout<8, 32, 128, false, false>,  // Q8_0
                      Layout<4, 16, 0, true, true>,      // Q2_K
                      Layout<4, 16, 4, false, true>,     // Q3_K
                      Layout<4, 32, 0, true, true>,      // Q4_K
                      Layout<5, 32, 0, true, true>,      // Q5_K
                      Layout<6, 16, 32, false, true>     // Q6_K
                      >(layout, choose);
}

#undef SEMEME_X86_BYTES

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
