#pragma once
// Sparse codes by tensor operations, on any device: how they are selected, decoded and differentiated where the CPU's kernels do not reach.
// What is of size [rows, latents] exists for a part of the rows at a time. On a CUDA device the kernels of sememe/kernels/cuda do the work
// where they were compiled; elsewhere LibTorch's operations do.

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "sememe/features/dictionary.h"
#include "sememe/kernels/top_k.h"

namespace sememe {

/// Rows of `latents` numbers that make 256 MiB, at least 1: as many exist at a time.
int64_t rows_of_part(int64_t latents);

/// Calls body(begin, count) for each part of the rows, in order.
void for_parts(int64_t rows, int64_t part, const std::function<void(int64_t begin, int64_t count)>& body);

/// Keeps, in each row, the k entries of largest score among those whose score is > 0; ties go to the lower latent: kernels::top_k().
/// @param pre_activations [rows, latents] float32; -inf is never selected
/// @param influence       [rows, latents], >= 0, for the scores other than kValue; else undefined. The one in `options` is not looked at.
/// @param first_row       what row 0 is called in an error
/// @throws Error naming row and latent of what cannot be ranked
SparseCodes top_k_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& influence, const kernels::TopKOptions& options,
                             int64_t first_row = 0);

/// The largest positive pre-activations of all rows together, of which it is given a part at a time; ties go to the lower row, then latent.
class LargestOfBatch {
 public:
  /// @param count how many to keep, at least 1
  LargestOfBatch(int64_t rows, int64_t latents, int64_t count) : rows_(rows), latents_(latents), count_(count) {}

  /// Takes rows [first_row, ...), each row once, in ascending order.
  /// @throws Error naming row and latent if a pre-activation is NaN or infinite
  void add(const torch::Tensor& pre_activations, int64_t first_row);
  SparseCodes codes() const;

 private:
  int64_t rows_, latents_, count_;
  torch::Tensor places_, values_;  // row * latents + latent, ascending
};

/// Selects values[row, i] where gates[row, i] > thresholds[i] and the value is positive.
/// @param gates, values [rows, latents]; may be the same tensor
/// @param first_row     what row 0 is called in an error
/// @throws Error naming row and latent if a gate or a value is NaN or infinite
SparseCodes above_by_tensors(const torch::Tensor& gates, const torch::Tensor& values, const torch::Tensor& thresholds,
                             int64_t first_row = 0);

/// The codes of successive parts, put together. @param parts at least one
SparseCodes join_codes(const std::vector<SparseCodes>& parts);

/// The row of each entry. -> [entries] int64
torch::Tensor rows_of_entries(const SparseCodes& codes);

/// Sparse matrix times dense one: bias + sum over a row's codes of value * matrix[atom].
/// @param matrix [any, width]; every atom must be one of its rows
/// @param bias   [width] or undefined
/// @return [rows, width]
torch::Tensor sum_by_codes(const SparseCodes& codes, const torch::Tensor& matrix, const torch::Tensor& bias);

/// vectors[row of entry] . matrix[atom of entry]
/// @param vectors [rows, width]
/// @param matrix  [any, width]
/// @return [entries]
torch::Tensor dot_by_codes(const SparseCodes& codes, const torch::Tensor& vectors, const torch::Tensor& matrix);

/// The entries of codes by atom, those of an atom in ascending row order: kernels::CodeColumns.
struct TensorColumns {
  torch::Tensor offsets;  ///< [size + 1] int64
  torch::Tensor rows;     ///< [entries] int32
  torch::Tensor entries;  ///< [entries] int64, places in the codes

  TensorColumns(const SparseCodes& codes, int64_t size);
  /// sum over each atom's entries of weights[entry] * row_vectors[row of entry]
  /// @param weights     [entries], in the order of the codes
  /// @param row_vectors [rows, width]
  /// @return [size, width]
  torch::Tensor sum(const torch::Tensor& weights, const torch::Tensor& row_vectors) const;
};

}  // namespace sememe
