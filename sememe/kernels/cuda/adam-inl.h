#pragma once
// The kernels of adam.h. They include nothing of CUDA, so that tests can also run them on the CPU (tests/kernels/cuda_on_cpu.h).

#include <cmath>
#include <cstdint>

#include "sememe/kernels/adam.h"
#include "sememe/kernels/cuda/columns-inl.h"

namespace sememe::kernels::cuda {
namespace {  // what a test plays and what a library launches are two

constexpr int kAdamThreads = 256;

__device__ inline void adam_one(const AdamStep& step, float& weight, float gradient, float& first, float& second) {
  first = step.beta1 * first + (1.0f - step.beta1) * gradient;
  second = step.beta2 * second + (1.0f - step.beta2) * gradient * gradient;
  weight -= step.rate * (first * step.first_correction) / (sqrtf(second * step.second_correction) + step.epsilon);
}

/// A block for kAdamThreads * kColumns numbers. `n` must be a multiple of kColumns.
template <int kColumns>
__global__ void adam_all(AdamStep step, float* weights, const float* gradients, float* first, float* second, int64_t n) {
  using Some = Columns<kColumns>;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * kAdamThreads + threadIdx.x) * kColumns;
  if (at >= n) return;
  Some weight = *reinterpret_cast<Some*>(weights + at), m = *reinterpret_cast<Some*>(first + at), v = *reinterpret_cast<Some*>(second + at);
  const Some gradient = *reinterpret_cast<const Some*>(gradients + at);
  for (int i = 0; i < kColumns; ++i) adam_one(step, weight.of[i], gradient.of[i], m.of[i], v.of[i]);
  *reinterpret_cast<Some*>(weights + at) = weight;
  *reinterpret_cast<Some*>(first + at) = m;
  *reinterpret_cast<Some*>(second + at) = v;
}

/// The sum of what the threads of a block give, in double: norms stay exact to the last float digit.
__device__ inline double sum_of_block(double given) {
  __shared__ double sums[kAdamThreads];
  const int thread = static_cast<int>(threadIdx.x);
  sums[thread] = given;
  __syncthreads();
  for (int step = kAdamThreads / 2; step > 0; step /= 2) {
    if (thread < step) sums[thread] += sums[thread + step];
    __syncthreads();
  }
  const double sum = sums[0];
  __syncthreads();
  return sum;
}

/// A block for each row. Rows must begin at multiples of kColumns floats.
template <int kColumns>
__global__ void adam_each_row(AdamStep step, float* values, const float* gradients, float* first, float* second, int64_t width, float* norms) {
  using Some = Columns<kColumns>;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * width, own = static_cast<int64_t>(threadIdx.x) * kColumns;
  constexpr int64_t kStride = kAdamThreads * kColumns;
  double sum = 0.0;
  for (int64_t column = own; column < width; column += kStride) {
    const Some value = *reinterpret_cast<const Some*>(values + begin + column), gradient = *reinterpret_cast<const Some*>(gradients + begin + column);
    for (int i = 0; i < kColumns; ++i) sum += static_cast<double>(value.of[i]) * static_cast<double>(gradient.of[i]);
  }
  const auto along = static_cast<float>(sum_of_block(sum));
  double square = 0.0;
  for (int64_t column = own; column < width; column += kStride) {
    Some value = *reinterpret_cast<Some*>(values + begin + column), m = *reinterpret_cast<Some*>(first + begin + column),
         v = *reinterpret_cast<Some*>(second + begin + column);
    const Some gradient = *reinterpret_cast<const Some*>(gradients + begin + column);
    for (int i = 0; i < kColumns; ++i) {
      adam_one(step, value.of[i], gradient.of[i] - along * value.of[i], m.of[i], v.of[i]);
      square += static_cast<double>(value.of[i]) * static_cast<double>(value.of[i]);
    }
    *reinterpret_cast<Some*>(values + begin + column) = value;
    *reinterpret_cast<Some*>(first + begin + column) = m;
    *reinterpret_cast<Some*>(second + begin + column) = v;
  }
  const auto norm = static_cast<float>(sqrt(sum_of_block(square)));
  if (threadIdx.x == 0) norms[blockIdx.x] = norm;
  if (!(norm >= 1e-8f)) return;
  for (int64_t column = own; column < width; column += kStride) {
    Some value = *reinterpret_cast<Some*>(values + begin + column);
    for (int i = 0; i < kColumns; ++i) value.of[i] /= norm;
    *reinterpret_cast<Some*>(values + begin + column) = value;
  }
}

}  // namespace
}  // namespace sememe::kernels::cuda
