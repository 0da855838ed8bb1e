#pragma once
// What every reader of weights hands out and every writer takes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sememe/formats/dtype.h"

namespace sememe {

/// A tensor's place in memory: row-major, not owned.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

}  // namespace sememe
