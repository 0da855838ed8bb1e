#pragma once
// Root-mean-square normalisation (Zhang and Sennrich 2019, eq. 4) with a gradient of two passes over memory; LibTorch's, made of
// single operations, takes five times as long on the CPU.

#include <torch/torch.h>

namespace sememe {

/// rows / sqrt(mean(rows^2) + epsilon) * weight over the last dimension, differentiable in both.
/// @param rows   [..., width]
/// @param weight [width]
torch::Tensor rms_norm(const torch::Tensor& rows, const torch::Tensor& weight, double epsilon);

}  // namespace sememe
