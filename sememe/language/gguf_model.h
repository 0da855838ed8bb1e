#pragma once
// Language models in GGUF files, as llama.cpp makes and runs them: in float32 in LibTorch, with gradients, or in the file's own precision.

#include <filesystem>

#include "sememe/language/language_model.h"

namespace sememe {

/// Reads a model of an architecture that sememe/families knows.
/// @throws Error naming the file and the key or tensor that is missing, malformed or not supported
LanguageModel load_gguf(const std::filesystem::path& path, Precision precision);

}  // namespace sememe
