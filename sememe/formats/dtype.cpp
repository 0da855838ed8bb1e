#include "sememe/formats/dtype.h"

#include <iterator>

#include "sememe/base/error.h"

namespace sememe {
namespace {

struct Kind {
  DType dtype;
  std::string_view name;
  int64_t bytes;
};

constexpr Kind kKinds[] = {
    {DType::kBool, "BOOL", 1},      {DType::kU8, "U8", 1},          {DType::kI8, "I8", 1},
    {DType::kU16, "U16", 2},        {DType::kI16, "I16", 2},        {DType::kU32, "U32", 4},
    {DType::kI32, "I32", 4},        {DType::kU64, "U64", 8},        {DType::kI64, "I64", 8},
    {DType::kF8E4M3, "F8_E4M3", 1}, {DType::kF8E5M2, "F8_E5M2", 1}, {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},      {DType::kF32, "F32", 4},        {DType::kF64, "F64", 8},
    {DType::kF8E8M0, "F8_E8M0", 1}, {DType::kC64, "C64", 8},
};

const Kind& kind(DType dtype) {
  for (const Kind& kind : kKinds)
    if (kind.dtype == dtype) return kind;
  fail("element type {} is not one of the {} known", static_cast<int>(dtype), std::size(kKinds));
}

}  // namespace

int64_t element_bytes(DType dtype) {
  return kind(dtype).bytes;
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
  int64_t bytes = element_bytes(dtype);
  bool empty = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) fail("{}: a dimension is {}, it cannot be negative", where, dimension);
    empty = empty || dimension == 0;
    // A zero elsewhere in the shape does not excuse the others: readers multiply them in any order.
    if (dimension > 0 && __builtin_mul_overflow(bytes, dimension, &bytes))
      fail("{}: the product of the dimensions does not fit 63 bits", where);
  }
  return empty ? 0 : bytes;
}

}  // namespace sememe
