#pragma once
// Decoding and its gradients on a CUDA device. Both are weighted sums of rows of a matrix: a reconstruction sums the atoms of a row's
// codes; the gradient of an atom sums the rows whose codes hold it, codes being given by atom then. No sum is by atomic additions, so that
// the same inputs give the same bits.

#include <cstdint>

#include "sememe/kernels/code_rows.h"
#include "sememe/kernels/cuda/device.h"

namespace sememe::kernels::cuda {

/// sums[row] = bias + sum over the row's codes of value * matrix[atom], added in the order of the codes: kernels::sparse_decode().
/// All pointers, those in `codes` too, are of device memory; every atom must be a row of the matrix.
/// @param matrix [any, width]
/// @param bias   [width], or null for none
/// @param sums   [codes.rows, width], overwritten
/// @throws Error if the kernel cannot be started
void sum_weighted_rows(const CodeRows& codes, const float* matrix, int64_t width, const float* bias, float* sums, Stream stream);

/// products[entry] = vectors[row of entry] . matrix[atom of entry]: kernels::sparse_code_gradients(). Values are not looked at.
/// @param vectors  [codes.rows, width]
/// @param matrix   [any, width]
/// @param products [entries], overwritten
/// @throws Error if the kernel cannot be started
void dot_rows(const CodeRows& codes, const float* vectors, const float* matrix, int64_t width, float* products, Stream stream);

}  // namespace sememe::kernels::cuda
