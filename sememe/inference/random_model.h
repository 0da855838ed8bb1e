#pragma once
// GGUF files of random weights in the shapes of published models, for measuring speed alone.

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "sememe/formats/gguf_blocks.h"

namespace sememe {

struct ModelShape {
  std::string_view name;
  uint32_t layers, width, feed_forward, heads, key_value_heads, head_width, vocabulary, context;
};

/// "llama-3.2-1b"; and "llama-3.2-1b-mlp", whose MLPs are the same and all else is as small as it can be.
/// @throws UsageError listing the shapes there are
const ModelShape& find_shape(std::string_view name);

/// Writes the file. @param type of the matrices: F16, Q4_0 or Q8_0
/// @throws UsageError for another type, Error if the file cannot be written
void write_random_model(const std::filesystem::path& path, const ModelShape& shape, GgmlType type, uint64_t seed);

}  // namespace sememe
