#include "sememe/kernels/multiplicative_step.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/multiplicative_step.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_MULTIPLICATIVE_STEP_SHARED
#define SEMEME_KERNELS_MULTIPLICATIVE_STEP_SHARED
namespace sememe::kernels {

inline float weighted_sum(const CodeRows& weights, int64_t row, const float* column, int64_t stride) {
  float sum = 0;
  for (int64_t entry = weights.offsets[row]; entry < weights.offsets[row + 1]; ++entry)
    sum += weights.values[entry] * column[weights.atoms[entry] * stride];
  return sum;
}

/// One coefficient of feature i. @return its product with P
inline float step_one(const MultiplicativeStep& step, int64_t i, int64_t row, float* next) {
  const float* const column = step.coefficients + row;
  const float product = step.products[i * step.rows + row];
  const float up = weighted_sum(step.up, i, column, step.rows) + std::max(product, 0.0f);
  const float down = weighted_sum(step.down, i, column, step.rows) + std::max(-product, 0.0f) + step.ridge;
  const float found = std::sqrt(up / down) * (column[i * step.rows] * step.scales[i]);
  next[i * step.rows + row] = found < step.least ? 0.0f : found;
  return next[i * step.rows + row] * product;
}

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_MULTIPLICATIVE_STEP_SHARED

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

namespace {

/// count vectors of rows, of all features: these coefficients stay in the nearest cache. @return the sum of next * products
template <int64_t count>
float step_rows(const MultiplicativeStep& step, int64_t row, float* HWY_RESTRICT next) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats), features = step.up.rows, rows = step.rows;
  const auto add_weighted = [&](const CodeRows& weights, int64_t i, Vector(&sums)[count]) HWY_ATTR {
    for (int64_t entry = weights.offsets[i]; entry < weights.offsets[i + 1]; ++entry) {
      const Vector weight = hn::Set(floats, weights.values[entry]);
      const float* const from = step.coefficients + weights.atoms[entry] * rows + row;
      for (int64_t v = 0; v < count; ++v) sums[v] = hn::MulAdd(weight, hn::LoadU(floats, from + v * lanes), sums[v]);
    }
  };
  const Vector zero = hn::Zero(floats), least = hn::Set(floats, step.least), ridge = hn::Set(floats, step.ridge);
  Vector cross = zero;
  for (int64_t i = 0; i < features; ++i) {
    const int64_t at = i * rows + row;
    Vector product[count], up[count], down[count];
    for (int64_t v = 0; v < count; ++v) {
      product[v] = hn::LoadU(floats, step.products + at + v * lanes);
      up[v] = hn::Max(product[v], zero);
      down[v] = hn::Add(hn::Sub(up[v], product[v]), ridge);  // [P]- = [P]+ - P
    }
    add_weighted(step.up, i, up);
    add_weighted(step.down, i, down);
    const Vector scale = hn::Set(floats, step.scales[i]);
    for (int64_t v = 0; v < count; ++v) {
      const Vector coefficient = hn::Mul(hn::LoadU(floats, step.coefficients + at + v * lanes), scale);
      const Vector found = hn::Mul(hn::Sqrt(hn::Div(up[v], down[v])), coefficient);
      const Vector kept = hn::IfThenZeroElse(hn::Lt(found, least), found);
      hn::StoreU(kept, floats, next + at + v * lanes);
      cross = hn::MulAdd(kept, product[v], cross);
    }
  }
  return hn::GetLane(hn::SumOfLanes(floats, cross));
}

}  // namespace

double multiplicative_step_vector(const MultiplicativeStep& step, float* HWY_RESTRICT next) {
  const int64_t lanes = hn::Lanes(Floats()), rows = step.rows;
  double cross = 0;
  int64_t row = 0;
  for (; row + 4 * lanes <= rows; row += 4 * lanes) cross += step_rows<4>(step, row, next);
  for (; row + lanes <= rows; row += lanes) cross += step_rows<1>(step, row, next);
  for (; row < rows; ++row)
    for (int64_t i = 0; i < step.up.rows; ++i) cross += step_one(step, i, row, next);
  return cross;
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(multiplicative_step_vector);

double multiplicative_step(const MultiplicativeStep& step, float* next) {
  return HWY_DYNAMIC_DISPATCH(multiplicative_step_vector)(step, next);
}

double multiplicative_step_reference(const MultiplicativeStep& step, float* next) {
  double cross = 0;
  for (int64_t i = 0; i < step.up.rows; ++i)
    for (int64_t row = 0; row < step.rows; ++row) cross += step_one(step, i, row, next);
  return cross;
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
