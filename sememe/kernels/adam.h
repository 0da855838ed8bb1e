#pragma once
// Adam (Kingma & Ba 2015, algorithm 1) in one pass over memory, and its form for the unit rows of a dictionary.

#include <cstdint>

namespace sememe::kernels {

/// Constants of one step. betas 0.9 and 0.999 and epsilon 6.25e-10 are those of Gao et al. 2024 for sparse autoencoders.
struct AdamStep {
  float rate = 0.0f;
  float first_correction = 1.0f;   ///< 1 / (1 - beta1^t)
  float second_correction = 1.0f;  ///< 1 / (1 - beta2^t)
  float beta1 = 0.9f, beta2 = 0.999f, epsilon = 6.25e-10f;

  /// @param steps how many there were with this one, at least 1
  static AdamStep at(int64_t steps, double learning_rate, double beta1 = 0.9, double beta2 = 0.999, double epsilon = 6.25e-10);
};

/// weights -= rate * m^ / (sqrt(v^) + epsilon), and the moments m = first, v = second; all [n].
void adam(const AdamStep& step, float* weights, const float* gradients, float* first, float* second, int64_t n);
void adam_reference(const AdamStep& step, float* weights, const float* gradients, float* first, float* second, int64_t n);

/// As adam() on one row that is to keep the norm 1: the gradient's part along the row is taken out before the step, and the row is
/// brought back to norm 1 after it.
/// @param gradients [n], changed
/// @return the norm after the step and before it was brought back; the row is left as it is where that is below 1e-8
float adam_unit_row(const AdamStep& step, float* row, float* gradients, float* first, float* second, int64_t n);
float adam_unit_row_reference(const AdamStep& step, float* row, float* gradients, float* first, float* second, int64_t n);

/// The Euclidean norm of [n] numbers.
float norm_of(const float* values, int64_t n);

}  // namespace sememe::kernels
