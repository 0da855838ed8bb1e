#pragma once
// For the files that nvcc compiles.

#include <cuda_runtime.h>

#include "sememe/kernels/cuda/device.h"

namespace sememe::kernels::cuda {

/// To be called behind a launch. @throws Error naming the kernel if it could not be started
inline void check_started(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  check_launch(kernel, status == cudaSuccess ? nullptr : cudaGetErrorString(status));
}

}  // namespace sememe::kernels::cuda
