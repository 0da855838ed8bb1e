#include "sememe/kernels/cuda/top_k.h"

#include <cuda_runtime.h>

#include <climits>

#include "sememe/kernels/cuda/top_k-inl.h"

namespace sememe::kernels::cuda {

bool available() {
  static const bool runs = [] {
    cudaFuncAttributes attributes;
    const bool found = cudaFuncGetAttributes(&attributes, select_rows) == cudaSuccess;
    cudaGetLastError();  // the question leaves no error behind
    return found;
  }();
  return runs;
}

void top_k(const float* pre_activations, int64_t rows, int64_t width, const TopKOptions& options, const TopKOutput& output,
           int32_t* first_unrankable, Stream stream) {
  if (rows > INT_MAX || width > INT_MAX || options.k < 1 || options.k > INT_MAX) check_launch("top_k", "its sizes are out of range");
  if (rows == 0) return;
  const bool by_value = options.score == SelectionScore::kValue;
  const RowsToSelect work{pre_activations,
                          by_value ? nullptr : options.influence,
                          static_cast<int32_t>(width),
                          static_cast<int32_t>(options.k),
                          options.score == SelectionScore::kProduct,
                          options.beta,
                          output,
                          first_unrankable};
  select_rows<<<static_cast<unsigned>(rows), kSelectThreads, 0, stream>>>(work);
  const cudaError_t status = cudaGetLastError();
  check_launch("top_k", status == cudaSuccess ? nullptr : cudaGetErrorString(status));
}

}  // namespace sememe::kernels::cuda
