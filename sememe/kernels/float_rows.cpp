#include "sememe/kernels/float_rows.h"

#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/float_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_FLOAT_ROWS_SHARED
#define SEMEME_KERNELS_FLOAT_ROWS_SHARED
namespace sememe::kernels {

inline bool widen_one(const std::byte* stored, float& value) {
  uint16_t bits;
  std::memcpy(&bits, stored, sizeof bits);
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                     : exponent == 31 ? (fraction ? NAN : INFINITY)
                                      : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  value = bits >> 15 ? -size : size;
  return exponent != 31;
}

inline bool copy_one(const std::byte* stored, float& value) {
  std::memcpy(&value, stored, sizeof value);
  return std::isfinite(value);
}

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_FLOAT_ROWS_SHARED

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR  // whose vectors of one lane cannot be loaded as bytes

namespace {

/// Each step takes a vector of numbers; `worst` gathers their bits without signs, of which a NaN's or infinity's are the largest.
template <class Load>
bool convert(const std::byte* stored, int64_t n, float* values, int64_t size, bool (*one)(const std::byte*, float&), Load load) {
  const hn::ScalableTag<float> floats;
  const hn::RebindToSigned<decltype(floats)> words;
  const int64_t lanes = hn::Lanes(floats);
  auto worst = hn::Zero(words);
  int64_t at = 0;
  for (; at + lanes <= n; at += lanes) {
    const auto value = load(floats, stored + at * size);
    worst = hn::Max(worst, hn::BitCast(words, hn::Abs(value)));
    hn::StoreU(value, floats, values + at);
  }
  bool finite = hn::GetLane(hn::MaxOfLanes(words, worst)) < 0x7F800000;
  for (; at < n; ++at) finite &= one(stored + at * size, values[at]);
  return finite;
}

}  // namespace

bool widen_float16_vector(const std::byte* stored, int64_t n, float* values) {
  return convert(stored, n, values, 2, widen_one, [](auto floats, const std::byte* from) HWY_ATTR {
    const hn::Rebind<hwy::float16_t, decltype(floats)> halves;
    const hn::Repartition<uint8_t, decltype(halves)> bytes;
    const auto value = hn::PromoteTo(floats, hn::BitCast(halves, hn::LoadU(bytes, reinterpret_cast<const uint8_t*>(from))));
    // Where no instruction converts, Highway takes infinity and NaN for numbers from 65536 on, which float16 does not have.
    const auto beyond = hn::Ge(hn::Abs(value), hn::Set(floats, 65536.0f));
    return hn::IfThenElse(beyond, hn::Or(value, hn::Set(floats, INFINITY)), value);
  });
}

bool copy_float32_vector(const std::byte* stored, int64_t n, float* values) {
  return convert(stored, n, values, 4, copy_one, [](auto floats, const std::byte* from) HWY_ATTR {
    const hn::Repartition<uint8_t, decltype(floats)> bytes;
    return hn::BitCast(floats, hn::LoadU(bytes, reinterpret_cast<const uint8_t*>(from)));
  });
}

#else

bool widen_float16_vector(const std::byte* stored, int64_t n, float* values) { return widen_float16_reference(stored, n, values); }
bool copy_float32_vector(const std::byte* stored, int64_t n, float* values) { return copy_float32_reference(stored, n, values); }

#endif

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(widen_float16_vector);
HWY_EXPORT(copy_float32_vector);

bool widen_float16(const std::byte* stored, int64_t n, float* values) {
  return HWY_DYNAMIC_DISPATCH(widen_float16_vector)(stored, n, values);
}

bool widen_float16_reference(const std::byte* stored, int64_t n, float* values) {
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) finite &= widen_one(stored + 2 * i, values[i]);
  return finite;
}

bool copy_float32(const std::byte* stored, int64_t n, float* values) {
  return HWY_DYNAMIC_DISPATCH(copy_float32_vector)(stored, n, values);
}

bool copy_float32_reference(const std::byte* stored, int64_t n, float* values) {
  bool finite = true;
  for (int64_t i = 0; i < n; ++i) finite &= copy_one(stored + 4 * i, values[i]);
  return finite;
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
