#include "sememe/kernels/bfloat16.h"

#include <bit>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/bfloat16.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_BFLOAT16_SHARED
#define SEMEME_KERNELS_BFLOAT16_SHARED
namespace sememe::kernels {

inline uint16_t rounded_to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);  // rounding could carry a NaN into infinity
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_BFLOAT16_SHARED

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void round_vector(const float* values, int64_t n, uint16_t* rounded) {
  const hn::ScalableTag<float> floats;
  const hn::RebindToUnsigned<decltype(floats)> words;
  const hn::Rebind<uint16_t, decltype(floats)> halves;
  const int64_t lanes = hn::Lanes(floats);
  int64_t at = 0;
  for (; at + lanes <= n; at += lanes) {
    const auto value = hn::LoadU(floats, values + at);
    const auto bits = hn::BitCast(words, value);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1));
    const auto nearest = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(words, 0x7FFF))));
    const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(words, 0x40));
    const auto chosen = hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(value)), quiet, nearest);
    hn::StoreU(hn::DemoteTo(halves, hn::BitCast(hn::RebindToSigned<decltype(words)>(), chosen)), halves, rounded + at);
  }
  for (; at < n; ++at) rounded[at] = rounded_to_bfloat16(values[at]);
}

float rounding_error_vector(const float* values, const uint16_t* rounded, int64_t n) {
  const hn::ScalableTag<float> floats;
  const hn::RebindToUnsigned<decltype(floats)> words;
  const hn::Rebind<uint16_t, decltype(floats)> halves;
  const int64_t lanes = hn::Lanes(floats);
  auto sum = hn::Zero(floats);
  int64_t at = 0;
  for (; at + lanes <= n; at += lanes) {
    const auto half = hn::BitCast(floats, hn::ShiftLeft<16>(hn::PromoteTo(words, hn::LoadU(halves, rounded + at))));
    const auto lost = hn::Sub(hn::LoadU(floats, values + at), half);
    sum = hn::MulAdd(lost, lost, sum);
  }
  float total = hn::GetLane(hn::SumOfLanes(floats, sum));
  for (; at < n; ++at) {
    const float lost = values[at] - std::bit_cast<float>(uint32_t{rounded[at]} << 16);
    total += lost * lost;
  }
  return std::sqrt(total);
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(round_vector);
HWY_EXPORT(rounding_error_vector);

void round_to_bfloat16(const float* values, int64_t n, uint16_t* rounded) {
  HWY_DYNAMIC_DISPATCH(round_vector)(values, n, rounded);
}

float rounding_error(const float* values, const uint16_t* rounded, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(rounding_error_vector)(values, rounded, n);
}

void round_to_bfloat16_reference(const float* values, int64_t n, uint16_t* rounded) {
  for (int64_t i = 0; i < n; ++i) rounded[i] = rounded_to_bfloat16(values[i]);
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
