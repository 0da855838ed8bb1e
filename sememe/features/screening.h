#pragma once
// Codes selected from a product too large to compute exactly in full: a product in the cheapest precision this processor has screens the
// latents, and what may be selected is computed in float32 (kernels/screened_top_k.h). The codes do not depend on the precision.

#include <torch/torch.h>

#include <cstdint>

#include "sememe/features/sparse_codes.h"
#include "sememe/kernels/screened_top_k.h"

namespace sememe {

/// A matrix [latents, width] float32 with what screening needs to know of its rows.
class ScreenedMatrix {
 public:
  ScreenedMatrix() = default;
  /// Keeps a handle: after rows of `matrix` have changed, refresh them.
  explicit ScreenedMatrix(torch::Tensor matrix);

  /// Takes note that row `latent` has changed. Different rows may be refreshed by different threads.
  void refresh(int64_t latent);
  void refresh_all();

  const torch::Tensor& matrix() const { return matrix_; }

  /// inputs [rows, width] . matrix rows, approximately: the tensors that a kernels::ApproximateProducts points into.
  struct Products {
    torch::Tensor inputs, matrix, products, input_errors, matrix_norms;
    kernels::ApproximateProducts view() const;
  };
  Products multiply(const torch::Tensor& inputs) const;

 private:
  torch::Tensor matrix_;
  torch::Tensor half_;            // [latents, width] bfloat16, undefined where float32 is as fast
  torch::Tensor norms_, losses_;  // [latents]: the rows' norms, and how much of them rounding takes away
};

/// Selects, in each row, the k latents of largest score among the pre-activations inputs . encoder^T + bias.
/// @param inputs    [rows, width] float32
/// @param bias      [latents]
/// @param gradients [rows, width], whose products with the decoder's rows are the influence; for the scores other than kValue
/// @param decoder   likewise; may be null for kValue
/// @throws Error naming row and latent if a pre-activation is NaN or infinite
void select_screened(const torch::Tensor& inputs, const ScreenedMatrix& encoder, const torch::Tensor& bias, const torch::Tensor& gradients,
                     const ScreenedMatrix* decoder, const kernels::TopKOptions& options, SelectedCodes& codes);

}  // namespace sememe
