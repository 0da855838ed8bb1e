#pragma once
// The kernels of weighted_rows.h. They include nothing of CUDA, so that tests can also run them on the CPU (tests/kernels/cuda_on_cpu.h).

#include <cstdint>

#include "sememe/kernels/code_rows.h"

namespace sememe::kernels::cuda {
namespace {  // what a test plays and what a library launches are two

constexpr int kRowThreads = 128;

/// A block for each row and kRowThreads of its columns.
__global__ void sum_rows(CodeRows codes, const float* matrix, int64_t width, const float* bias, float* sums) {
  const int64_t row = blockIdx.x, column = static_cast<int64_t>(blockIdx.y) * kRowThreads + threadIdx.x;
  if (column >= width) return;
  float sum = bias == nullptr ? 0.0f : bias[column];
  for (int64_t entry = codes.offsets[row]; entry < codes.offsets[row + 1]; ++entry)
    sum += codes.values[entry] * matrix[codes.atoms[entry] * width + column];
  sums[row * width + column] = sum;
}

/// A block for each row, of whose codes each warp takes one at a time.
__global__ void dot_entries(CodeRows codes, const float* vectors, const float* matrix, int64_t width, float* products) {
  constexpr int kLanes = 32;
  const int64_t row = blockIdx.x;
  const int warp = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int64_t entry = codes.offsets[row] + warp; entry < codes.offsets[row + 1]; entry += kRowThreads / kLanes) {
    float sum = 0.0f;
    for (int64_t column = lane; column < width; column += kLanes)
      sum += vectors[row * width + column] * matrix[codes.atoms[entry] * width + column];
    for (int distance = kLanes / 2; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
    if (lane == 0) products[entry] = sum;
  }
}

}  // namespace
}  // namespace sememe::kernels::cuda
