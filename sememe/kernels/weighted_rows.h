#pragma once
// The two inner loops of sparse dictionaries: a weighted sum of some rows of a matrix, and dot products with some of them.

#include <cstdint>

namespace sememe::kernels {

/// target += sum over i of weights[i] * matrix[rows[i]], added in the order of i.
/// @param target [width], not overlapping the matrix
/// @param rows, weights [count]; the rows must exist
/// @param matrix [any, width]
void add_weighted_rows(float* target, int64_t width, const int32_t* rows, const float* weights, int64_t count,
                       const float* matrix);
void add_weighted_rows_reference(float* target, int64_t width, const int32_t* rows, const float* weights, int64_t count,
                                 const float* matrix);

/// products[i] = vector . matrix[rows[i]]
/// @param products [count]
/// @param vector [width]
void dot_rows(float* products, const float* vector, int64_t width, const int32_t* rows, int64_t count, const float* matrix);
void dot_rows_reference(float* products, const float* vector, int64_t width, const int32_t* rows, int64_t count,
                        const float* matrix);

}  // namespace sememe::kernels
