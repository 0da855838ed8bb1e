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
  kC64,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kF4,
  kF6E2M3,
  kF6E3M2
};

/// Bytes of one element.
/// @throws Error for F4, F6_E2M3 and F6_E3M2, whose elements are smaller than a byte
int64_t element_bytes(DType dtype);

/// The name that safetensors uses, e.g. "F32".
std::string_view dtype_name(DType dtype);

/// The type of that safetensors name, if there is one.
std::optional<DType> dtype_from_name(std::string_view name);

/// Bytes of the elements together.
/// @throws Error naming `where` if a dimension is negative, the product does not fit 63 bits, or the elements do not
///         fill whole bytes
int64_t tensor_bytes(std::span<const int64_t> shape, DType dtype, std::string_view where);

}  // namespace sememe
