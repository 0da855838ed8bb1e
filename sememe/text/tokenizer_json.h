#pragma once
// Hugging Face's tokenizer.json, and the older files of GPT-2 and BERT.

#include <filesystem>
#include <string_view>

#include "sememe/text/merge_trainer.h"
#include "sememe/text/tokenizer_file.h"

namespace sememe {

/// Reads tokenizer.json, vocab.json with merges.txt beside it, or BERT's vocab.txt, and what tokenizer_config.json,
/// generation_config.json and config.json in the same folder say of the beginning and the end of texts.
/// @throws Error naming the file and the part that is missing, malformed or not supported
TokenizerFile load_tokenizer_file(const std::filesystem::path& path);

/// The file of a tokenizer that was learned here: `end_of_text` is token 0, the others follow in their order.
TokenizerFile make_tokenizer_file(const LearnedMerges& learned, std::string_view end_of_text);

}  // namespace sememe
