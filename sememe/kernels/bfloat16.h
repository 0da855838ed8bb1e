#pragma once
// Rounding to bfloat16: the upper half of a float32's bits, rounded to the nearest, ties to even.

#include <cstdint>

namespace sememe::kernels {

/// @param rounded [n]; infinities stay, NaNs stay NaN
void round_to_bfloat16(const float* values, int64_t n, uint16_t* rounded);
/// The Euclidean norm of what rounding took away.
float rounding_error(const float* values, const uint16_t* rounded, int64_t n);
void round_to_bfloat16_reference(const float* values, int64_t n, uint16_t* rounded);

}  // namespace sememe::kernels
