#pragma once
// The element types that weight and array files use.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace sememe {

enum class DType {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF8E4M3,
  kF8E5M2,
  kF16,
  kBF16,
  kF32,
  kF64,
  kF8E8M0,
  kC64
};

/// Bytes of one element. The types of less than a byte (F4, F6) are not read.
int64_t element_bytes(DType dtype);

/// The name that safetensors uses, e.g. "F32".
std::string_view dtype_name(DType dtype);

/// The type of that safetensors name, if there is one.
std::optional<DType> dtype_from_name(std::string_view name);

/// Product of the dimensions times element_bytes().
/// @throws Error naming `where` if a dimension is negative or the product does not fit 63 bits
int64_t tensor_bytes(std::span<const int64_t> shape, DType dtype, std::string_view where);

}  // namespace sememe
