#pragma once
// What a tokenizer.json of a byte-level BPE says, checked: every id in range, every merge of known tokens.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/formats/gguf.h"
#include "sememe/text/merge_trainer.h"

namespace sememe {

struct TokenizerFile {
  struct Token {
    std::string bytes;
    bool present = false;     ///< false: no token has this id
    bool byte_level = false;  ///< written in the byte-level alphabet, so that encoding can give it
  };
  struct Merge {
    int32_t left, right, merged;
  };
  /// What a pre-tokenizer "Digits" before the splitting rule does with numbers: nothing, every run alone, every digit
  /// alone.
  enum class Digits { kTogether, kRuns, kEach };

  std::vector<Token> tokens;  ///< by id; holds all bytes but control characters and such as UTF-8 has no use for
  std::vector<Merge> merges;  ///< by rank
  std::map<std::string, int32_t> specials;
  Digits digits = Digits::kTogether;
  bool add_prefix_space = false;
  bool split_words = true;     ///< by GPT-2's rule
  bool ignore_merges = false;  ///< a word that is a token stays whole
  Json document;               ///< the whole file
};

/// Reads tokenizer.json, the folder that holds it, or vocab.json with merges.txt beside it.
/// @throws Error naming the file and the part that is missing, malformed or not supported
TokenizerFile load_tokenizer_file(const std::filesystem::path& path);

/// The tokenizer that a GGUF file holds: of its kinds "gpt2", byte-level BPE, with the splitting rules "gpt-2" and "smollm".
/// @throws Error naming the file and the key that is missing, malformed or not supported
TokenizerFile tokenizer_file_of(const GgufFile& file);

/// The file of a tokenizer that was learned here: `end_of_text` is token 0, the others follow in their order.
TokenizerFile make_tokenizer_file(const LearnedMerges& learned, std::string_view end_of_text);

}  // namespace sememe
