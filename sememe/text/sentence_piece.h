#pragma once
// SentencePiece's own model files (tokenizer.model), and what all files that hold a tokenizer of its kinds say alike.

#include <filesystem>
#include <string>

#include "sememe/text/tokenizer_file.h"

namespace sememe {

struct SentencePieceSettings {
  bool unigram = false;       ///< otherwise merges, ranked by scores
  bool space_first = true;    ///< a space is put before each text
  bool trims_spaces = false;  ///< at both ends, and of several in a row all but one
  std::string character_map = {};  ///< the compiled normaliser (character_map.h); empty: texts stay as they are
};

/// Fills in everything but what begins and ends texts. @param file its tokens have names, types and scores
/// @throws Error naming `where` and the token that is too long, or as CharacterMap
void complete_sentence_piece(TokenizerFile& file, const SentencePieceSettings& settings, const std::string& where);

/// Reads a tokenizer.model, the ids that an added_tokens.json beside it adds, and what read_settings() reads there.
/// @throws Error naming the file and what is malformed or not supported
TokenizerFile tokenizer_file_of_sentence_piece(const std::filesystem::path& path);

}  // namespace sememe
