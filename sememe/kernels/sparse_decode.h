#pragma once
// Reconstructions from sparse codes: a gather over the few selected atoms of each row, never a dense product.

#include <cstdint>

#include "sememe/kernels/code_rows.h"

namespace sememe::kernels {

/// reconstruction[row] = bias + sum over the row's codes of value * atoms[atom], added in the order of the codes.
/// Rows run in parallel; the result does not depend on the number of threads.
/// @param atoms [size, width]
/// @param bias [width], or null for none
/// @param reconstruction [codes.rows, width], overwritten
/// @throws Error as check_codes
void sparse_decode(const CodeRows& codes, const float* atoms, int64_t size, int64_t width, const float* bias,
                   float* reconstruction);

/// The same, one number at a time: what sparse_decode() means.
void sparse_decode_reference(const CodeRows& codes, const float* atoms, int64_t size, int64_t width, const float* bias,
                             float* reconstruction);

}  // namespace sememe::kernels
