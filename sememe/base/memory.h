#pragma once
// How much memory there is.

#include <cstdint>
#include <string_view>

namespace sememe {

/// Bytes that can still be had without swapping; the largest number where the system does not say.
int64_t available_memory();

/// @throws Error that says what needs how much and how much there is, unless `bytes` can be had
void require_memory(int64_t bytes, std::string_view what);

}  // namespace sememe
