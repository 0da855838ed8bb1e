#include "sememe/kernels/cuda/weighted_rows.h"

#include <cuda_runtime.h>

#include "sememe/kernels/cuda/weighted_rows-inl.h"

namespace sememe::kernels::cuda {
namespace {

void check(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  check_launch(kernel, status == cudaSuccess ? nullptr : cudaGetErrorString(status));
}

}  // namespace

void sum_weighted_rows(const CodeRows& codes, const float* matrix, int64_t width, const float* bias, float* sums, Stream stream) {
  if (codes.rows == 0 || width == 0) return;
  const dim3 blocks(static_cast<unsigned>(codes.rows), static_cast<unsigned>((width + kRowThreads - 1) / kRowThreads));
  sum_rows<<<blocks, kRowThreads, 0, stream>>>(codes, matrix, width, bias, sums);
  check("sum_weighted_rows");
}

void dot_rows(const CodeRows& codes, const float* vectors, const float* matrix, int64_t width, float* products, Stream stream) {
  if (codes.rows == 0) return;
  dot_entries<<<static_cast<unsigned>(codes.rows), kRowThreads, 0, stream>>>(codes, vectors, matrix, width, products);
  check("dot_rows");
}

}  // namespace sememe::kernels::cuda
