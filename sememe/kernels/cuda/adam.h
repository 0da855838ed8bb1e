#pragma once
// kernels/adam.h on a CUDA device, in one pass over memory. All pointers are of device memory.

#include <cstdint>

#include "sememe/kernels/adam.h"
#include "sememe/kernels/cuda/device.h"

namespace sememe::kernels::cuda {

/// What kernels::adam() does.
/// @throws Error if the kernel cannot be started
void adam(const AdamStep& step, float* weights, const float* gradients, float* first, float* second, int64_t n, Stream stream);

/// What kernels::adam_unit_row() does with each row, but that gradients stay as they are.
/// @param values, gradients, first, second [rows, width]
/// @param norms [rows], overwritten: after the step and before rows were brought back
/// @throws Error if the kernel cannot be started
void adam_unit_rows(const AdamStep& step, float* values, const float* gradients, float* first, float* second, int64_t rows, int64_t width,
                    float* norms, Stream stream);

}  // namespace sememe::kernels::cuda
