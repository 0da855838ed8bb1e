#pragma once
// kernels/adam.h by tensor operations, for parameters that are not in the CPU's memory.

#include <torch/torch.h>

#include "sememe/kernels/adam.h"

namespace sememe {

/// kernels::adam() on tensors of any shape, the same for all.
void adam_by_tensors(const kernels::AdamStep& step, torch::Tensor weights, const torch::Tensor& gradients, torch::Tensor first,
                     torch::Tensor second);

/// kernels::adam_unit_row() on each row. Gradients may be changed.
/// @param rows, gradients, first, second [n, width]
/// @return [n] the norms after the step and before rows were brought back; rows where that is below 1e-8 are left as they are
torch::Tensor adam_unit_rows_by_tensors(const kernels::AdamStep& step, torch::Tensor rows, torch::Tensor gradients, torch::Tensor first,
                                        torch::Tensor second);

}  // namespace sememe
