#pragma once
// Selected codes in compressed rows, and what is computed from them without ever forming a dense [rows, latents] matrix.

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "sememe/features/dictionary.h"
#include "sememe/kernels/code_rows.h"
#include "sememe/kernels/top_k.h"
#include "sememe/ranks/ranks.h"

namespace sememe {

/// Compressed rows whose memory is reused from batch to batch: row i holds entries [offsets[i], offsets[i + 1]), atoms ascending.
struct SelectedCodes {
  std::vector<int64_t> offsets;
  std::vector<int32_t> atoms;
  std::vector<float> values;  ///< > 0
  std::vector<float> scores;  ///< by which they were selected, where not by value; else empty

  int64_t rows() const { return static_cast<int64_t>(offsets.size()) - 1; }
  /// Turns k places a row, as the selecting kernels fill them, into compressed rows.
  /// @param counts [rows] how many of a row's places are filled
  void close_up(int64_t k, const std::vector<int32_t>& counts);
  kernels::CodeRows view() const { return {rows(), offsets.data(), atoms.data(), values.data()}; }
};

/// Selects from pre_activations [rows, latents] float32.
/// @throws Error naming row and latent if a pre-activation is NaN or infinite
void select_codes(const torch::Tensor& pre_activations, const kernels::TopKOptions& options, SelectedCodes& codes);

/// Selects from all rows together the rows * k largest positive pre-activations; ties go to the lower row, then latent.
/// @throws Error naming row and latent if a pre-activation is NaN or infinite, or if there are 2^31 of them
void select_codes_of_batch(const torch::Tensor& pre_activations, int64_t k, SelectedCodes& codes);

/// Selects values[row, i] where gates[row, i] > thresholds[i] and the value is positive.
/// @param gates, values [rows, latents] float32, contiguous; may be the same tensor
/// @param thresholds    [latents]
/// @param first_row     what row 0 is called in an error
/// @throws Error naming row and latent if a gate or a value is NaN or infinite
void select_above(const torch::Tensor& gates, const torch::Tensor& values, const torch::Tensor& thresholds, int64_t first_row,
                  SelectedCodes& codes);

/// Keeps of codes that one rank has found among its latents those that are among the k largest of a row over the latents of all ranks;
/// ties go to the lower latent.
/// @param first_latent what latent 0 of this rank is among all
void keep_largest_of_row(SelectedCodes& codes, int64_t k, int64_t first_latent, const Ranks& ranks);

/// Keeps those that are among the `count` largest values of all rows and ranks, and what ties with the least of them.
void keep_largest_of_batch(SelectedCodes& codes, int64_t count, const Ranks& ranks);

/// codes, decoder [latents, width], bias [width] or undefined -> reconstruction [rows, width], overwritten
void decode_codes(const kernels::CodeRows& codes, const torch::Tensor& decoder, const torch::Tensor& bias,
                  torch::Tensor& reconstruction);

/// Adds the gradients of a loss that reads the codes' reconstruction, over the selected (row, latent) pairs only.
/// @param inputs                  [rows, width], what the encoder was given
/// @param reconstruction_gradient [rows, width]
/// @param decoder                 [latents, width]
/// @param encoder_gradient, encoder_bias_gradient, decoder_gradient [latents, width], [latents], [latents, width]
void add_code_gradients(const SelectedCodes& codes, const torch::Tensor& inputs, const torch::Tensor& reconstruction_gradient,
                        const torch::Tensor& decoder, torch::Tensor& encoder_gradient, torch::Tensor& encoder_bias_gradient,
                        torch::Tensor& decoder_gradient);

/// Puts the codes of successive parts together.
class SparseCodesBuilder {
 public:
  void append(const SelectedCodes& codes);
  SparseCodes finish();

 private:
  std::vector<int64_t> offsets_{0};
  std::vector<int32_t> atoms_;
  std::vector<float> values_;
};

/// decoder [latents, width], bias [width] or undefined -> [rows, width]
/// @throws Error if an atom is not a row of the decoder
torch::Tensor decode_sparse(const SparseCodes& codes, const torch::Tensor& decoder, const torch::Tensor& bias);

}  // namespace sememe
