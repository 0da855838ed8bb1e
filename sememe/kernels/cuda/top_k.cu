#include "sememe/kernels/cuda/top_k.h"

#include <climits>

#include "sememe/kernels/cuda/launch.h"
#include "sememe/kernels/cuda/top_k-inl.h"

namespace sememe::kernels::cuda {
namespace {

/// A block for each row, whose ranks it keeps in shared memory where `in_shared` says that it was given as much.
__global__ void __launch_bounds__(kSelectThreads) select_rows(RowsToSelect work, bool in_shared) {
  extern __shared__ uint32_t ranks[];
  select_row(work, in_shared ? ranks : nullptr);
}

/// Bytes of shared memory that a block may be given beside what it has. Asked of the device once.
int64_t most_shared() {
  static const int64_t most = [] {
    int device = 0, all = 0;
    cudaFuncAttributes attributes{};
    if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&all, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess ||
        cudaFuncGetAttributes(&attributes, select_rows) != cudaSuccess)
      return int64_t{0};
    const int left = all - static_cast<int>(attributes.sharedSizeBytes);
    if (left <= 0 || cudaFuncSetAttribute(select_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, left) != cudaSuccess) return int64_t{0};
    return static_cast<int64_t>(left);
  }();
  return most;
}

}  // namespace

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
  const bool in_shared = width * static_cast<int64_t>(sizeof(uint32_t)) <= most_shared();
  select_rows<<<static_cast<unsigned>(rows), kSelectThreads, in_shared ? width * sizeof(uint32_t) : 0, stream>>>(work, in_shared);
  check_started("top_k");
}

}  // namespace sememe::kernels::cuda
