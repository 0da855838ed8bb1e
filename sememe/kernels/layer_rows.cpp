#include "sememe/kernels/layer_rows.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/layer_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

namespace {

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

/// Calls body(i, floats) for whole vectors and then for what is left, one by one.
template <class Body>
HWY_INLINE void for_each_vector(int64_t width, const Body& body) {
  const Floats floats;
  const auto lanes = static_cast<int64_t>(hn::Lanes(floats));
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) body(i, floats);
  for (; i < width; ++i) body(i, hn::CappedTag<float, 1>());
}

template <class Term>
HWY_INLINE float sum_over(int64_t width, const Term& term) {
  const Floats floats;
  Vector sum = hn::Zero(floats);
  float rest = 0.0f;
  for_each_vector(width, [&](int64_t i, auto d) HWY_ATTR {
    if constexpr (hn::MaxLanes(d) > 1)
      sum = hn::Add(sum, term(i, d));
    else
      rest += hn::GetLane(term(i, d));
  });
  return hn::GetLane(hn::SumOfLanes(floats, sum)) + rest;
}

template <class D>
HWY_INLINE hn::Vec<D> logistic(D d, hn::Vec<D> x) {
  const auto one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 88.0f)))));
}

template <Unit kUnit, class D>
HWY_INLINE hn::Vec<D> apply_unit(D d, hn::Vec<D> x) {
  if constexpr (kUnit == Unit::kRelu) return hn::Max(x, hn::Zero(d));
  if constexpr (kUnit == Unit::kSilu) return hn::Mul(x, logistic(d, x));
  // (1 + tanh z) / 2 is the logistic function of 2 z.
  const auto cube = hn::Mul(hn::Mul(x, x), x);
  return hn::Mul(x, logistic(d, hn::Mul(hn::Set(d, 2.0f * 0.7978845608f), hn::MulAdd(hn::Set(d, 0.044715f), cube, x))));
}

template <Unit kUnit>
HWY_INLINE void apply_to_row(const float* x, const float* up, int64_t width, float* out) {
  for_each_vector(width, [&](int64_t i, auto d) HWY_ATTR {
    const auto value = apply_unit<kUnit>(d, hn::LoadU(d, x + i));
    hn::StoreU(up ? hn::Mul(value, hn::LoadU(d, up + i)) : value, d, out + i);
  });
}

}  // namespace

void rms_norm_vector(const float* x, const float* weight, int64_t width, float epsilon, float* out) {
  const float squares = sum_over(width, [&](int64_t i, auto d) HWY_ATTR {
    const auto now = hn::LoadU(d, x + i);
    return hn::Mul(now, now);
  });
  const float factor = 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
  for_each_vector(width, [&](int64_t i, auto d) HWY_ATTR {
    const auto scaled = hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor));
    hn::StoreU(weight ? hn::Mul(scaled, hn::LoadU(d, weight + i)) : scaled, d, out + i);
  });
}

void layer_norm_vector(const float* x, const float* weight, const float* bias, int64_t width, float epsilon, float* out) {
  const auto n = static_cast<float>(width);
  const float mean = sum_over(width, [&](int64_t i, auto d) HWY_ATTR { return hn::LoadU(d, x + i); }) / n;
  const float squares = sum_over(width, [&](int64_t i, auto d) HWY_ATTR {
    const auto centred = hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean));
    return hn::Mul(centred, centred);
  });
  const float factor = 1.0f / std::sqrt(squares / n + epsilon);
  for_each_vector(width, [&](int64_t i, auto d) HWY_ATTR {
    const auto scaled = hn::Mul(hn::Sub(hn::LoadU(d, x + i), hn::Set(d, mean)), hn::Set(d, factor));
    hn::StoreU(hn::MulAdd(scaled, hn::LoadU(d, weight + i), hn::LoadU(d, bias + i)), d, out + i);
  });
}

void rotate_vector(float* x, const float* cosines, const float* sines, int64_t half) {
  for_each_vector(half, [&](int64_t j, auto d) HWY_ATTR {
    const auto a = hn::LoadU(d, x + j), b = hn::LoadU(d, x + half + j), c = hn::LoadU(d, cosines + j), s = hn::LoadU(d, sines + j);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + j);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + half + j);
  });
}

void unit_vector(Unit unit, const float* x, const float* up, int64_t width, float* out) {
  if (unit == Unit::kRelu) return apply_to_row<Unit::kRelu>(x, up, width, out);
  if (unit == Unit::kSilu) return apply_to_row<Unit::kSilu>(x, up, width, out);
  apply_to_row<Unit::kGeluTanh>(x, up, width, out);
}

void add_vector(const float* x, int64_t width, float* into) {
  for_each_vector(width, [&](int64_t i, auto d) HWY_ATTR { hn::StoreU(hn::Add(hn::LoadU(d, into + i), hn::LoadU(d, x + i)), d, into + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(rms_norm_vector);
HWY_EXPORT(layer_norm_vector);
HWY_EXPORT(rotate_vector);
HWY_EXPORT(unit_vector);
HWY_EXPORT(add_vector);

void rms_norm_row(const float* x, const float* weight, int64_t width, float epsilon, float* out) {
  HWY_DYNAMIC_DISPATCH(rms_norm_vector)(x, weight, width, epsilon, out);
}

void layer_norm_row(const float* x, const float* weight, const float* bias, int64_t width, float epsilon, float* out) {
  HWY_DYNAMIC_DISPATCH(layer_norm_vector)(x, weight, bias, width, epsilon, out);
}

void rotate_row(float* x, const float* cosines, const float* sines, int64_t half) {
  HWY_DYNAMIC_DISPATCH(rotate_vector)(x, cosines, sines, half);
}

void unit_row(Unit unit, const float* x, const float* up, int64_t width, float* out) {
  // Highway has no error function; the models that use this one are small.
  if (unit == Unit::kGelu) return unit_row_reference(unit, x, up, width, out);
  HWY_DYNAMIC_DISPATCH(unit_vector)(unit, x, up, width, out);
}

void add_row(const float* x, int64_t width, float* into) { HWY_DYNAMIC_DISPATCH(add_vector)(x, width, into); }

void rms_norm_row_reference(const float* x, const float* weight, int64_t width, float epsilon, float* out) {
  double squares = 0.0;
  for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon);
  for (int64_t i = 0; i < width; ++i) out[i] = static_cast<float>(x[i] * factor * (weight ? weight[i] : 1.0f));
}

void layer_norm_row_reference(const float* x, const float* weight, const float* bias, int64_t width, float epsilon, float* out) {
  double mean = 0.0, squares = 0.0;
  for (int64_t i = 0; i < width; ++i) mean += x[i];
  mean /= static_cast<double>(width);
  for (int64_t i = 0; i < width; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon);
  for (int64_t i = 0; i < width; ++i) out[i] = static_cast<float>((x[i] - mean) * factor * weight[i] + bias[i]);
}

void rotate_row_reference(float* x, const float* cosines, const float* sines, int64_t half) {
  for (int64_t j = 0; j < half; ++j) {
    const double a = x[j], b = x[half + j];
    x[j] = static_cast<float>(a * cosines[j] - b * sines[j]);
    x[half + j] = static_cast<float>(b * cosines[j] + a * sines[j]);
  }
}

void unit_row_reference(Unit unit, const float* x, const float* up, int64_t width, float* out) {
  for (int64_t i = 0; i < width; ++i) {
    const double v = x[i];
    double value = v > 0 ? v : v * 0.0;  // which a NaN stays
    if (unit == Unit::kSilu) value = v / (1.0 + std::exp(-v));
    if (unit == Unit::kGelu) value = 0.5 * v * (1.0 + std::erf(v / std::sqrt(2.0)));
    if (unit == Unit::kGeluTanh) value = 0.5 * v * (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
    out[i] = static_cast<float>(value * (up ? up[i] : 1.0f));
  }
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
