#pragma once
// Neighbouring numbers that a thread loads at once.

#include <algorithm>
#include <cstdint>
#include <initializer_list>

namespace sememe::kernels::cuda {
namespace {  // what a test plays and what a library launches are two

/// Four make the widest load there is. They must lie at a multiple of their size.
template <int kColumns>
struct alignas(4 * kColumns) Columns {
  float of[kColumns];
};

/// Whether every row of these, `width` floats each, begins at a multiple of four floats.
[[maybe_unused]] bool in_fours(int64_t width, std::initializer_list<const float*> rows) {
  return width % 4 == 0 && std::all_of(rows.begin(), rows.end(), [](const float* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; });
}

}  // namespace
}  // namespace sememe::kernels::cuda
