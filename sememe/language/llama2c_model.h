#pragma once
// Language models in checkpoints of llama2.c, with the tokenizer that lies beside them.

#include <filesystem>

#include "sememe/language/language_model.h"

namespace sememe {

/// Reads a checkpoint of version 0 into float32. @param tokenizer empty takes tokenizer.bin in the same folder
/// @throws Error naming the file and what is missing or malformed
LanguageModel load_llama2c(const std::filesystem::path& path, const std::filesystem::path& tokenizer);

}  // namespace sememe
