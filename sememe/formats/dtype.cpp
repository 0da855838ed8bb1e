#include "sememe/formats/dtype.h"

#include <iterator>

#include "sememe/base/error.h"

namespace sememe {
namespace {

struct Kind {
  DType dtype;
  std::string_view name;
  int64_t bits;
};

constexpr Kind kKinds[] = {
    {DType::kBool, "BOOL", 8},      {DType::kU8, "U8", 8},
    {DType::kI8, "I8", 8},          {DType::kU16, "U16", 16},
    {DType::kI16, "I16", 16},       {DType::kU32, "U32", 32},
    {DType::kI32, "I32", 32},       {DType::kU64, "U64", 64},
    {DType::kI64, "I64", 64},       {DType::kF8E4M3, "F8_E4M3", 8},
    {DType::kF8E5M2, "F8_E5M2", 8}, {DType::kF16, "F16", 16},
    {DType::kBF16, "BF16", 16},     {DType::kF32, "F32", 32},
    {DType::kF64, "F64", 64},       {DType::kC64, "C64", 64},
    {DType::kF8E8M0, "F8_E8M0", 8}, {DType::kF8E4M3FNUZ, "F8_E4M3FNUZ", 8},
    {DType::kF4, "F4", 4},          {DType::kF6E2M3, "F6_E2M3", 6},
    {DType::kF6E3M2, "F6_E3M2", 6}, {DType::kF8E5M2FNUZ, "F8_E5M2FNUZ", 8},
};

const Kind& kind(DType dtype) {
  for (const Kind& kind : kKinds)
    if (kind.dtype == dtype) return kind;
  fail("element type {} is not one of the {} known", static_cast<int>(dtype), std::size(kKinds));
}

}  // namespace

int64_t element_bytes(DType dtype) {
  const Kind& found = kind(dtype);
  if (found.bits % 8 != 0)
    fail("an element of type {} has {} bits, which is no number of bytes", found.name, found.bits);
  return found.bits / 8;
}

std::string_view dtype_name(DType dtype) {
  return kind(dtype).name;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const Kind& kind : kKinds)
    if (kind.name == name) return kind.dtype;
  return std::nullopt;
}

int64_t tensor_bytes(std::span<const int64_t> shape, DType dtype, std::string_view where) {
  int64_t bits = kind(dtype).bits;
  bool empty = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) fail("{}: a dimension is {}, it cannot be negative", where, dimension);
    empty = empty || dimension == 0;
    // A zero elsewhere in the shape does not excuse the others: readers multiply them in any order.
    if (dimension > 0 && __builtin_mul_overflow(bits, dimension, &bits))
      fail("{}: the product of the dimensions does not fit 63 bits", where);
  }
  if (empty) return 0;
  if (bits % 8 != 0) fail("{}: {} bits of type {} do not fill whole bytes", where, bits, dtype_name(dtype));
  return bits / 8;
}

}  // namespace sememe
