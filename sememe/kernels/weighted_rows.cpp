#include "sememe/kernels/weighted_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/weighted_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

/// Four vectors of the target stay in registers while all rows are added to them.
void add_weighted_rows_vector(float* HWY_RESTRICT target, int64_t width, const int32_t* rows, const float* weights,
                              int64_t count, const float* HWY_RESTRICT matrix) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  int64_t column = 0;
  for (; column + 4 * lanes <= width; column += 4 * lanes) {
    float* const to = target + column;
    auto sum0 = hn::LoadU(floats, to), sum1 = hn::LoadU(floats, to + lanes);
    auto sum2 = hn::LoadU(floats, to + 2 * lanes), sum3 = hn::LoadU(floats, to + 3 * lanes);
    for (int64_t i = 0; i < count; ++i) {
      const auto weight = hn::Set(floats, weights[i]);
      const float* const from = matrix + rows[i] * width + column;
      sum0 = hn::MulAdd(weight, hn::LoadU(floats, from), sum0);
      sum1 = hn::MulAdd(weight, hn::LoadU(floats, from + lanes), sum1);
      sum2 = hn::MulAdd(weight, hn::LoadU(floats, from + 2 * lanes), sum2);
      sum3 = hn::MulAdd(weight, hn::LoadU(floats, from + 3 * lanes), sum3);
    }
    hn::StoreU(sum0, floats, to);
    hn::StoreU(sum1, floats, to + lanes);
    hn::StoreU(sum2, floats, to + 2 * lanes);
    hn::StoreU(sum3, floats, to + 3 * lanes);
  }
  for (; column + lanes <= width; column += lanes) {
    auto sum = hn::LoadU(floats, target + column);
    for (int64_t i = 0; i < count; ++i)
      sum = hn::MulAdd(hn::Set(floats, weights[i]), hn::LoadU(floats, matrix + rows[i] * width + column), sum);
    hn::StoreU(sum, floats, target + column);
  }
  for (; column < width; ++column)
    for (int64_t i = 0; i < count; ++i) target[column] += weights[i] * matrix[rows[i] * width + column];
}

namespace {

HWY_INLINE float dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t width) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  auto sum0 = hn::Zero(floats), sum1 = sum0, sum2 = sum0, sum3 = sum0;
  int64_t at = 0;
  for (; at + 4 * lanes <= width; at += 4 * lanes) {
    sum0 = hn::MulAdd(hn::LoadU(floats, a + at), hn::LoadU(floats, b + at), sum0);
    sum1 = hn::MulAdd(hn::LoadU(floats, a + at + lanes), hn::LoadU(floats, b + at + lanes), sum1);
    sum2 = hn::MulAdd(hn::LoadU(floats, a + at + 2 * lanes), hn::LoadU(floats, b + at + 2 * lanes), sum2);
    sum3 = hn::MulAdd(hn::LoadU(floats, a + at + 3 * lanes), hn::LoadU(floats, b + at + 3 * lanes), sum3);
  }
  for (; at + lanes <= width; at += lanes) sum0 = hn::MulAdd(hn::LoadU(floats, a + at), hn::LoadU(floats, b + at), sum0);
  float sum = hn::GetLane(hn::SumOfLanes(floats, hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3))));
  for (; at < width; ++at) sum += a[at] * b[at];
  return sum;
}

}  // namespace

void dot_rows_vector(float* products, const float* vector, int64_t width, const int32_t* rows, int64_t count,
                     const float* matrix) {
  for (int64_t i = 0; i < count; ++i) products[i] = dot(vector, matrix + rows[i] * width, width);
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(add_weighted_rows_vector);
HWY_EXPORT(dot_rows_vector);

void add_weighted_rows(float* target, int64_t width, const int32_t* rows, const float* weights, int64_t count,
                       const float* matrix) {
  HWY_DYNAMIC_DISPATCH(add_weighted_rows_vector)(target, width, rows, weights, count, matrix);
}

void add_weighted_rows_reference(float* target, int64_t width, const int32_t* rows, const float* weights, int64_t count,
                                 const float* matrix) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t column = 0; column < width; ++column) target[column] += weights[i] * matrix[rows[i] * width + column];
}

void dot_rows(float* products, const float* vector, int64_t width, const int32_t* rows, int64_t count, const float* matrix) {
  HWY_DYNAMIC_DISPATCH(dot_rows_vector)(products, vector, width, rows, count, matrix);
}

void dot_rows_reference(float* products, const float* vector, int64_t width, const int32_t* rows, int64_t count,
                        const float* matrix) {
  for (int64_t i = 0; i < count; ++i) {
    products[i] = 0;
    for (int64_t column = 0; column < width; ++column) products[i] += vector[column] * matrix[rows[i] * width + column];
  }
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
