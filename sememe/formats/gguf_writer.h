#pragma once
// Writes GGUF files, version 3.

#include <filesystem>
#include <span>

#include "sememe/formats/gguf.h"

namespace sememe {

/// Writes the file, whole or not at all, with tensors at multiples of 32 bytes.
/// @throws Error naming the file if it cannot be written, or the tensor whose data are not as many bytes as its shape and type need
void write_gguf(const std::filesystem::path& path, std::span<const GgufEntry> metadata, std::span<const GgufTensor> tensors);

}  // namespace sememe
