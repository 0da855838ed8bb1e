#include "sememe/kernels/cached_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "sememe/kernels/float_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/cached_attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

namespace {

using Floats = hn::CappedTag<float, kKeyTile>;
using Halves = hn::Rebind<hwy::float16_t, Floats>;
using Vector = hn::Vec<Floats>;

HWY_INLINE Vector load_halves(const uint16_t* at) {
  return hn::PromoteTo(Floats(), hn::LoadU(Halves(), reinterpret_cast<const hwy::float16_t*>(at)));
}

/// Scores of whole tiles; those of tokens outside the span are made -infinity later.
template <int kQueries>
HWY_INLINE void score_tiles(const float* HWY_RESTRICT queries, const uint16_t* HWY_RESTRICT keys, int64_t head_width, int64_t first_tile,
                            int64_t last_tile, float* HWY_RESTRICT scores, int64_t stride) {
  const Floats floats;
  const auto lanes = static_cast<int64_t>(hn::Lanes(floats));
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    for (int64_t lane = 0; lane < kKeyTile; lane += lanes) {
      const uint16_t* const at = keys + tile * head_width * kKeyTile + lane;
      Vector sums[kQueries];
      for (int q = 0; q < kQueries; ++q) sums[q] = hn::Zero(floats);
      for (int64_t i = 0; i < head_width; ++i) {
        const Vector key = load_halves(at + i * kKeyTile);
        for (int q = 0; q < kQueries; ++q) sums[q] = hn::MulAdd(key, hn::Set(floats, queries[q * head_width + i]), sums[q]);
      }
      for (int q = 0; q < kQueries; ++q) hn::StoreU(sums[q], floats, scores + q * stride + tile * kKeyTile + lane);
    }
  }
}

HWY_INLINE void cap(float* scores, int64_t begin, int64_t end, float softcap) {
  const Floats floats;
  const Vector bound = hn::Set(floats, softcap);
  for (int64_t t = begin; t < end; t += static_cast<int64_t>(hn::Lanes(floats)))
    hn::StoreU(hn::Mul(bound, hn::Tanh(floats, hn::Div(hn::LoadU(floats, scores + t), bound))), floats, scores + t);
}

/// Scores to weights that sum to one, over whole vectors from `begin` to `end`.
HWY_INLINE void softmax(float* scores, int64_t begin, int64_t end) {
  const Floats floats;
  const auto lanes = static_cast<int64_t>(hn::Lanes(floats));
  Vector most = hn::Set(floats, -std::numeric_limits<float>::infinity()), sum = hn::Zero(floats);
  for (int64_t t = begin; t < end; t += lanes) most = hn::Max(most, hn::LoadU(floats, scores + t));
  const Vector maximum = hn::Set(floats, hn::GetLane(hn::MaxOfLanes(floats, most)));
  for (int64_t t = begin; t < end; t += lanes) {
    // Highway's exp is exact only down to about -88; what is less is as good as zero.
    const Vector below = hn::Sub(hn::LoadU(floats, scores + t), maximum);
    const Vector weight = hn::IfThenElse(hn::Lt(below, hn::Set(floats, -80.0f)), hn::Zero(floats), hn::Exp(floats, below));
    hn::StoreU(weight, floats, scores + t);
    sum = hn::Add(sum, weight);
  }
  const Vector factor = hn::Set(floats, 1.0f / hn::GetLane(hn::SumOfLanes(floats, sum)));
  for (int64_t t = begin; t < end; t += lanes) hn::StoreU(hn::Mul(hn::LoadU(floats, scores + t), factor), floats, scores + t);
}

template <int kQueries, int kVectors>
HWY_INLINE void mix_values(const float* HWY_RESTRICT weights, int64_t stride, const uint16_t* HWY_RESTRICT values, int64_t head_width,
                           int64_t first, int64_t last, float* HWY_RESTRICT out) {
  const Floats floats;
  const auto lanes = static_cast<int64_t>(hn::Lanes(floats));
  Vector sums[kQueries][kVectors];
  for (int q = 0; q < kQueries; ++q)
    for (int v = 0; v < kVectors; ++v) sums[q][v] = hn::Zero(floats);
  for (int64_t t = first; t < last; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      const Vector value = load_halves(values + t * head_width + v * lanes);
      for (int q = 0; q < kQueries; ++q) sums[q][v] = hn::MulAdd(value, hn::Set(floats, weights[q * stride + t]), sums[q][v]);
    }
  }
  for (int q = 0; q < kQueries; ++q)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[q][v], floats, out + q * head_width + v * lanes);
}

template <int kQueries>
void attend_together(const float* queries, const uint16_t* keys, const uint16_t* values, int64_t head_width, const AttentionSpan& span,
                     float* scores, float* out) {
  const int64_t first_tile = span.first / kKeyTile, last_tile = (span.last + kKeyTile - 1) / kKeyTile, stride = last_tile * kKeyTile;
  score_tiles<kQueries>(queries, keys, head_width, first_tile, last_tile, scores, stride);
  for (int q = 0; q < kQueries; ++q) {
    float* const row = scores + q * stride;
    if (span.softcap > 0.0f) cap(row, first_tile * kKeyTile, stride, span.softcap);
    std::fill(row + first_tile * kKeyTile, row + span.first, -std::numeric_limits<float>::infinity());
    std::fill(row + span.last, row + stride, -std::numeric_limits<float>::infinity());
    softmax(row, first_tile * kKeyTile, stride);
  }
  const auto lanes = static_cast<int64_t>(hn::Lanes(Floats()));
  int64_t at = 0;
  for (; at + 4 * lanes <= head_width; at += 4 * lanes)
    mix_values<kQueries, 4>(scores, stride, values + at, head_width, span.first, span.last, out + at);
  for (; at < head_width; at += lanes) mix_values<kQueries, 1>(scores, stride, values + at, head_width, span.first, span.last, out + at);
}

}  // namespace

void attend_vector(const float* queries, int64_t count, const uint16_t* keys, const uint16_t* values, int64_t head_width,
                   const AttentionSpan& span, float* scores, float* out) {
  const auto some = [&](auto attend_some, int64_t from) {
    attend_some(queries + from * head_width, keys, values, head_width, span, scores, out + from * head_width);
  };
  int64_t q = 0;
  for (; q + 4 <= count; q += 4) some(attend_together<4>, q);
  if (count - q == 3) some(attend_together<3>, q);
  if (count - q == 2) some(attend_together<2>, q);
  if (count - q == 1) some(attend_together<1>, q);
}

void store_halves_vector(const float* from, int64_t count, uint16_t* to) {
  const Floats floats;
  const auto lanes = static_cast<int64_t>(hn::Lanes(floats));
  for (int64_t i = 0; i < count; i += lanes)
    hn::StoreU(hn::DemoteTo(Halves(), hn::LoadU(floats, from + i)), Halves(), reinterpret_cast<hwy::float16_t*>(to + i));
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(attend_vector);
HWY_EXPORT(store_halves_vector);

void store_key_value(const float* key, const float* value, int64_t token, int64_t head_width, uint16_t* keys, uint16_t* values) {
  constexpr int64_t kSome = 64;
  uint16_t halves[kSome];
  uint16_t* const column = keys + token / kKeyTile * head_width * kKeyTile + token % kKeyTile;
  for (int64_t first = 0; first < head_width; first += kSome) {
    const int64_t count = std::min(kSome, head_width - first);
    HWY_DYNAMIC_DISPATCH(store_halves_vector)(key + first, count, halves);
    for (int64_t i = 0; i < count; ++i) column[(first + i) * kKeyTile] = halves[i];
  }
  HWY_DYNAMIC_DISPATCH(store_halves_vector)(value, head_width, values + token * head_width);
}

void attend(const float* queries, int64_t count, const uint16_t* keys, const uint16_t* values, int64_t head_width, const AttentionSpan& span,
            float* scores, float* out) {
  HWY_DYNAMIC_DISPATCH(attend_vector)(queries, count, keys, values, head_width, span, scores, out);
}

void attend_reference(const float* queries, int64_t count, const uint16_t* keys, const uint16_t* values, int64_t head_width,
                      const AttentionSpan& span, float* /*scores*/, float* out) {
  const auto widened = [](uint16_t half) {
    float value;
    widen_float16_reference(reinterpret_cast<const std::byte*>(&half), 1, &value);
    return static_cast<double>(value);
  };
  for (int64_t q = 0; q < count; ++q) {
    std::vector<double> weights(span.last, 0.0);
    double most = -std::numeric_limits<double>::infinity(), sum = 0.0;
    for (int64_t t = span.first; t < span.last; ++t) {
      for (int64_t i = 0; i < head_width; ++i)
        weights[t] += queries[q * head_width + i] * widened(keys[(t / kKeyTile * head_width + i) * kKeyTile + t % kKeyTile]);
      if (span.softcap > 0.0f) weights[t] = span.softcap * std::tanh(weights[t] / span.softcap);
      most = std::max(most, weights[t]);
    }
    for (int64_t t = span.first; t < span.last; ++t) sum += weights[t] = std::exp(weights[t] - most);
    for (int64_t i = 0; i < head_width; ++i) {
      double mixed = 0.0;
      for (int64_t t = span.first; t < span.last; ++t) mixed += weights[t] / sum * widened(values[t * head_width + i]);
      out[q * head_width + i] = static_cast<float>(mixed);
    }
  }
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
