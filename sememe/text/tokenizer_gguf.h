#pragma once
// The tokenizer inside a GGUF file.

#include "sememe/formats/gguf.h"
#include "sememe/text/tokenizer_file.h"

namespace sememe {

/// Of kinds "gpt2" (byte-level merges), "llama" (SentencePiece merges), "t5" (SentencePiece unigram) and "bert" (WordPiece).
/// @throws Error naming the file and the key that is missing, malformed or not supported
TokenizerFile tokenizer_file_of(const GgufFile& file);

}  // namespace sememe
