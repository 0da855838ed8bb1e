#pragma once
// Products of rows with the rows of a matrix, such as pre-activations. On a CUDA device that the CUDA kernels are for, which has tensor cores,
// they are computed there: float32 units reach an eighth of TF32's rate. TF32 keeps 11 bits, so that each factor is split in two, x = high + low,
// and three of the four products are summed: high high + high low + low high (Ootomo and Yokota 2022, arXiv 2203.03341). The sums that tensor
// cores keep are coarser than float32's: results were off by at most 2e-6 of |x| |w| at width 768, those of float32 units by 2.4e-7.

#include <torch/torch.h>

#include <utility>

namespace sememe {

class RowProducts {
 public:
  /// @param matrix [rows, width] float32; on a CUDA device its parts take three times its memory while this lives
  explicit RowProducts(const torch::Tensor& matrix);
  /// bias + x matrix^T, [n, rows]
  /// @param x    [n, width] float32, on the matrix's device
  /// @param bias [rows] or undefined
  torch::Tensor with(const torch::Tensor& x, const torch::Tensor& bias = {}) const;

 private:
  torch::Tensor matrix_;  // [rows, width], or [rows, 3 width] in parts
  bool in_parts_;
};

/// The upper 11 of x's 24 bits, rounded to nearest, and what is left.
std::pair<torch::Tensor, torch::Tensor> split_for_tf32(const torch::Tensor& x);

}  // namespace sememe
