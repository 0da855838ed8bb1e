#pragma once
// Gradients of a sparse dictionary, at the selected (row, atom) pairs only. With reconstruction = sum value * decoder[atom]
// and value = x . encoder[atom] + encoder_bias[atom] where selected, e = dLoss / dreconstruction gives
//   dLoss/dvalue = e . decoder[atom],  dLoss/ddecoder[atom] = sum over rows of value * e,
//   dLoss/dencoder[atom] = sum over rows of dvalue * x,  dLoss/dencoder_bias[atom] = sum over rows of dvalue.
// Each sum runs over ascending rows on one thread, so no result depends on the number of threads.

#include <cstdint>

#include "sememe/kernels/code_rows.h"

namespace sememe::kernels {

/// code_gradients[entry] = output_gradients[row of entry] . decoder[atom of entry]; rows run in parallel.
/// @param output_gradients [codes.rows, width]
/// @param decoder [size, width]
/// @param code_gradients [entries], overwritten
/// @throws Error as check_codes
void sparse_code_gradients(const CodeRows& codes, const float* output_gradients, const float* decoder, int64_t size,
                           int64_t width, float* code_gradients);
void sparse_code_gradients_reference(const CodeRows& codes, const float* output_gradients, const float* decoder, int64_t size,
                                     int64_t width, float* code_gradients);

/// gradient += sum over one atom's entries of weights[entry] * row_vectors[row of entry]: what the two below do for all atoms.
/// @param gradient [width], added to
void add_atom_gradient(const CodeColumns& columns, int64_t atom, const float* weights, const float* row_vectors, int64_t width,
                       float* gradient);

/// gradients[atom] += sum over the atom's entries of weights[entry] * row_vectors[row of entry]; atoms run in parallel.
/// The decoder's gradient with weights = codes.values and row_vectors = dLoss/dreconstruction; the encoder's (stored by atom)
/// with weights = the code gradients and row_vectors = the inputs.
/// @param columns columns_of(codes, size)
/// @param weights [entries], in the order of the codes
/// @param row_vectors [rows, width]
/// @param gradients [size, width], added to
void add_atom_gradients(const CodeColumns& columns, const float* weights, const float* row_vectors, int64_t width,
                        float* gradients);
void add_atom_gradients_reference(const CodeColumns& columns, const float* weights, const float* row_vectors, int64_t width,
                                  float* gradients);

/// bias_gradients[atom] += sum over the atom's entries of code_gradients[entry]
/// @param bias_gradients [size], added to
void add_bias_gradients(const CodeColumns& columns, const float* code_gradients, float* bias_gradients);

}  // namespace sememe::kernels
