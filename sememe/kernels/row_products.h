#pragma once
// Products of all rows of one matrix with all rows of another, for rows that are long: piece by piece, each sum as exact as a piece's.

#include <cstdint>

namespace sememe::kernels {

/// sums[i, j] += a[i] . b[j]. A product is taken in float32, in as many parts as a vector has lanes, and added in double. It does not
/// depend on what other rows there are.
/// @param a    [a_rows, width], read once, so it may come from memory
/// @param b    [b_rows, width], read once for every few rows of a, so it should fit the cache
/// @param sums [a_rows, b_rows], not overlapping the rest
void add_row_products(const float* a, int64_t a_rows, const float* b, int64_t b_rows, int64_t width, double* sums);
void add_row_products_reference(const float* a, int64_t a_rows, const float* b, int64_t b_rows, int64_t width, double* sums);

}  // namespace sememe::kernels
