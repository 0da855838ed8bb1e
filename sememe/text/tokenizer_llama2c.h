#pragma once
// The tokenizer.bin of llama2.c: a u32, the length of the longest token, then of each token its score (f32), length (u32) and bytes. How many
// there are, the model's file says.

#include <filesystem>

#include "sememe/text/tokenizer_file.h"

namespace sememe {

/// SentencePiece's merges, ranked by the scores; every text begins with <s>, which also ends what is generated.
/// @throws Error naming the file, and the token at fault, if it is malformed
TokenizerFile tokenizer_file_of_llama2c(const std::filesystem::path& path);

}  // namespace sememe
