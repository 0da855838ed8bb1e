#include "sememe/kernels/adam.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/adam.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_ADAM_SHARED
#define SEMEME_KERNELS_ADAM_SHARED
namespace sememe::kernels {

inline void adam_one(const AdamStep& step, float& weight, float gradient, float& first, float& second) {
  first = step.beta1 * first + (1.0f - step.beta1) * gradient;
  second = step.beta2 * second + (1.0f - step.beta2) * gradient * gradient;
  weight -= step.rate * (first * step.first_correction) / (std::sqrt(second * step.second_correction) + step.epsilon);
}

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_ADAM_SHARED

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

/// The same operations in the same order for each entry, so that it does not matter which of them a vector holds.
void adam_vector(const AdamStep& step, float* HWY_RESTRICT weights, const float* HWY_RESTRICT gradients, float* HWY_RESTRICT first,
                 float* HWY_RESTRICT second, int64_t n) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  const auto beta1 = hn::Set(floats, step.beta1), rest1 = hn::Set(floats, 1.0f - step.beta1);
  const auto beta2 = hn::Set(floats, step.beta2), rest2 = hn::Set(floats, 1.0f - step.beta2);
  const auto rate = hn::Set(floats, step.rate), epsilon = hn::Set(floats, step.epsilon);
  const auto correction1 = hn::Set(floats, step.first_correction), correction2 = hn::Set(floats, step.second_correction);
  int64_t at = 0;
  for (; at + lanes <= n; at += lanes) {
    const auto gradient = hn::LoadU(floats, gradients + at);
    const auto m = hn::Add(hn::Mul(beta1, hn::LoadU(floats, first + at)), hn::Mul(rest1, gradient));
    const auto v = hn::Add(hn::Mul(beta2, hn::LoadU(floats, second + at)), hn::Mul(hn::Mul(rest2, gradient), gradient));
    const auto slope = hn::Div(hn::Mul(rate, hn::Mul(m, correction1)), hn::Add(hn::Sqrt(hn::Mul(v, correction2)), epsilon));
    hn::StoreU(m, floats, first + at);
    hn::StoreU(v, floats, second + at);
    hn::StoreU(hn::Sub(hn::LoadU(floats, weights + at), slope), floats, weights + at);
  }
  for (; at < n; ++at) adam_one(step, weights[at], gradients[at], first[at], second[at]);
}

namespace {  // as in all kernels: unoptimised, the linker would merge what two files call the same

/// a . b in double: norms of rows stay exact to the last float digit.
HWY_INLINE double dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t n) {
#if HWY_HAVE_FLOAT64
  const hn::ScalableTag<double> doubles;
  const hn::Rebind<float, decltype(doubles)> floats;
  const int64_t lanes = hn::Lanes(doubles);
  auto sum0 = hn::Zero(doubles), sum1 = sum0;
  int64_t at = 0;
  for (; at + 2 * lanes <= n; at += 2 * lanes) {
    sum0 = hn::MulAdd(hn::PromoteTo(doubles, hn::LoadU(floats, a + at)), hn::PromoteTo(doubles, hn::LoadU(floats, b + at)), sum0);
    sum1 = hn::MulAdd(hn::PromoteTo(doubles, hn::LoadU(floats, a + at + lanes)),
                      hn::PromoteTo(doubles, hn::LoadU(floats, b + at + lanes)), sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(doubles, hn::Add(sum0, sum1)));
#else
  int64_t at = 0;
  double sum = 0;
#endif
  for (; at < n; ++at) sum += static_cast<double>(a[at]) * b[at];
  return sum;
}

}  // namespace

double dot_vector(const float* a, const float* b, int64_t n) { return dot(a, b, n); }

float adam_unit_row_vector(const AdamStep& step, float* HWY_RESTRICT row, float* HWY_RESTRICT gradients, float* HWY_RESTRICT first,
                           float* HWY_RESTRICT second, int64_t n) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  const auto along = static_cast<float>(dot(row, gradients, n));
  int64_t at = 0;
  for (; at + lanes <= n; at += lanes)
    hn::StoreU(hn::Sub(hn::LoadU(floats, gradients + at), hn::Mul(hn::Set(floats, along), hn::LoadU(floats, row + at))), floats,
               gradients + at);
  for (; at < n; ++at) gradients[at] -= along * row[at];
  adam_vector(step, row, gradients, first, second, n);
  const auto norm = static_cast<float>(std::sqrt(dot(row, row, n)));
  if (!(norm >= 1e-8f)) return norm;
  for (at = 0; at + lanes <= n; at += lanes)
    hn::StoreU(hn::Div(hn::LoadU(floats, row + at), hn::Set(floats, norm)), floats, row + at);
  for (; at < n; ++at) row[at] /= norm;
  return norm;
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(adam_vector);
HWY_EXPORT(adam_unit_row_vector);
HWY_EXPORT(dot_vector);

AdamStep AdamStep::at(int64_t steps, double learning_rate, double beta1, double beta2, double epsilon) {
  const auto t = static_cast<double>(steps);
  return {static_cast<float>(learning_rate), static_cast<float>(1.0 / (1.0 - std::pow(beta1, t))),
          static_cast<float>(1.0 / (1.0 - std::pow(beta2, t))), static_cast<float>(beta1), static_cast<float>(beta2),
          static_cast<float>(epsilon)};
}

void adam(const AdamStep& step, float* weights, const float* gradients, float* first, float* second, int64_t n) {
  HWY_DYNAMIC_DISPATCH(adam_vector)(step, weights, gradients, first, second, n);
}

void adam_reference(const AdamStep& step, float* weights, const float* gradients, float* first, float* second, int64_t n) {
  for (int64_t i = 0; i < n; ++i) adam_one(step, weights[i], gradients[i], first[i], second[i]);
}

float adam_unit_row(const AdamStep& step, float* row, float* gradients, float* first, float* second, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(adam_unit_row_vector)(step, row, gradients, first, second, n);
}

float adam_unit_row_reference(const AdamStep& step, float* row, float* gradients, float* first, float* second, int64_t n) {
  double along = 0, square = 0;
  for (int64_t i = 0; i < n; ++i) along += static_cast<double>(row[i]) * gradients[i];
  for (int64_t i = 0; i < n; ++i) gradients[i] -= static_cast<float>(along) * row[i];
  adam_reference(step, row, gradients, first, second, n);
  for (int64_t i = 0; i < n; ++i) square += static_cast<double>(row[i]) * row[i];
  const auto norm = static_cast<float>(std::sqrt(square));
  for (int64_t i = 0; i < n && norm >= 1e-8f; ++i) row[i] /= norm;
  return norm;
}

float norm_of(const float* values, int64_t n) {
  return static_cast<float>(std::sqrt(HWY_DYNAMIC_DISPATCH(dot_vector)(values, values, n)));
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
