#pragma once
// SentencePiece's byte-pair encoding (Kudo & Richardson 2018): a text's characters are merged, and a character that the vocabulary lacks
// becomes its bytes or the unknown token.

#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sememe/text/merges.h"
#include "sememe/text/segmenter.h"
#include "sememe/text/tokenizer_file.h"

namespace sememe {

class CharacterPairs : public Segmenter {
 public:
  /// @param file must outlive this
  explicit CharacterPairs(const TokenizerFile& file);
  void segment(std::string_view word, std::vector<int32_t>& ids) const override;
  /// Up to a U+2581 that no token holds after the byte before it: no merge can cross that place.
  size_t independent_prefix(std::string_view word) const override;

 private:
  void add_unknown(std::string_view character, std::vector<int32_t>& ids) const;

  Merges merges_;
  std::unordered_map<char32_t, int32_t> characters_;
  std::unordered_map<std::string_view, int32_t> whole_words_;
  std::array<int32_t, 256> byte_ids_;
  std::array<bool, 256> joined_{};  ///< by byte: a token has it right before a U+2581
  int32_t unknown_;
  bool byte_fallback_, fuse_unknown_, whole_words_first_;
};

/// The merges that SentencePiece's scores amount to: each way to make a token of two others, ranked by the token's score, best first.
/// Tokens of equal scores have equal ranks.
std::vector<TokenizerFile::Merge> merges_of_scores(const std::vector<TokenizerFile::Token>& tokens);

}  // namespace sememe
