#pragma once
// Stored numbers as float32, with the check that they are numbers in the same pass.

#include <cstddef>
#include <cstdint>

namespace sememe::kernels {

/// @param stored [n] float16, aligned or not
/// @param values [n] float32, exactly the same numbers
/// @return true unless one is NaN or infinite
bool widen_float16(const std::byte* stored, int64_t n, float* values);
bool widen_float16_reference(const std::byte* stored, int64_t n, float* values);

/// The same of float32.
bool copy_float32(const std::byte* stored, int64_t n, float* values);
bool copy_float32_reference(const std::byte* stored, int64_t n, float* values);

}  // namespace sememe::kernels
