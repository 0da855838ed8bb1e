#pragma once
// The k largest products of each input row with the rows of a matrix, without computing all products exactly. Approximations of known
// error (a dense product in low precision) screen out what cannot be among them; what is left is computed in float32 and ranked. The
// codes are those of exact products whatever the approximations were: a cheaper screen changes the time and nothing else.

#include <cstdint>
#include <optional>

#include "sememe/kernels/top_k.h"

namespace sememe::kernels {

/// Products of `rows` inputs with the rows of a matrix [latents, width], approximately.
struct ApproximateProducts {
  const float* inputs;   ///< [rows, width]
  const float* matrix;   ///< [latents, width]
  const void* products;  ///< [rows, latents], inputs . matrix rows, as bfloat16 or float32
  bool bfloat16;
  /// A product is off by at most input_errors[row] * matrix_norms[latent], and by its own rounding to the type of `products`.
  const float* input_errors;  ///< [rows], >= 0
  const float* matrix_norms;  ///< [latents], the rows' Euclidean norms
};

struct ScreenedInput {
  ApproximateProducts activations;
  const float* bias = nullptr;                   ///< [latents], added to the products; null for none
  const ApproximateProducts* influence = nullptr;  ///< g = |product|: what `influence` is in TopKOptions, for the other scores
  int64_t rows = 0, width = 0, latents = 0;
};

/// As top_k() on the float32 products (dot_rows) plus bias. `options.influence` is not looked at: input.influence says it. A row whose
/// influence inputs are all zero is ranked by value, and by kProduct one whose influences are. Rows run in parallel; a row's codes depend on nothing but that row and the matrix.
/// @return nothing, or the first entry of a row that cannot be ranked
std::optional<UnrankableEntry> screened_top_k(const ScreenedInput& input, const TopKOptions& options, const TopKOutput& output);

}  // namespace sememe::kernels
