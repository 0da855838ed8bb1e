#pragma once
// The kernels of weighted_rows.h. They include nothing of CUDA, so that tests can also run them on the CPU (tests/kernels/cuda_on_cpu.h).

#include <cstdint>

#include "sememe/kernels/code_rows.h"
#include "sememe/kernels/cuda/columns-inl.h"

namespace sememe::kernels::cuda {
namespace {  // what a test plays and what a library launches are two

constexpr int kRowThreads = 128;

/// A block for each row and kRowThreads * kColumns of its columns. Rows must begin at multiples of as many floats.
template <int kColumns>
__global__ void sum_rows(CodeRows codes, const float* matrix, int64_t width, const float* bias, float* sums) {
  using Some = Columns<kColumns>;
  const int64_t row = blockIdx.x, column = (static_cast<int64_t>(blockIdx.y) * kRowThreads + threadIdx.x) * kColumns;
  if (column >= width) return;
  Some sum{};
  if (bias != nullptr)
    for (int i = 0; i < kColumns; ++i) sum.of[i] = bias[column + i];
  const int64_t end = codes.offsets[row + 1];
#pragma unroll 4
  for (int64_t entry = codes.offsets[row]; entry < end; ++entry) {
    const float value = codes.values[entry];
    const Some atom = *reinterpret_cast<const Some*>(matrix + codes.atoms[entry] * width + column);
    for (int i = 0; i < kColumns; ++i) sum.of[i] += value * atom.of[i];
  }
  *reinterpret_cast<Some*>(sums + row * width + column) = sum;
}

/// A block for each row, of whose codes each warp takes one at a time. Rows must begin at multiples of kColumns floats.
template <int kColumns>
__global__ void dot_entries(CodeRows codes, const float* vectors, const float* matrix, int64_t width, float* products) {
  using Some = Columns<kColumns>;
  constexpr int kLanes = 32;
  const int64_t row = blockIdx.x;
  const int warp = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  const float* const vector = vectors + row * width;
  for (int64_t entry = codes.offsets[row] + warp; entry < codes.offsets[row + 1]; entry += kRowThreads / kLanes) {
    const float* const atom = matrix + codes.atoms[entry] * width;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t column = static_cast<int64_t>(lane) * kColumns; column < width; column += kLanes * kColumns) {
      const Some a = *reinterpret_cast<const Some*>(vector + column), b = *reinterpret_cast<const Some*>(atom + column);
      for (int i = 0; i < kColumns; ++i) sum += a.of[i] * b.of[i];
    }
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
    if (lane == 0) products[entry] = sum;
  }
}

}  // namespace
}  // namespace sememe::kernels::cuda
