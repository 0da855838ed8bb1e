#pragma once
// What a file says of a tokenizer, whatever its format, checked: ids in range, merges of known tokens, parts that are supported.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/text/added_tokens.h"
#include "sememe/text/cutter.h"
#include "sememe/text/merges.h"
#include "sememe/text/normalizer.h"
#include "sememe/text/spelling.h"

namespace sememe {

enum class TokenType { kAbsent, kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

enum class TokenModel { kMerges, kUnigram, kWordPiece };

struct TokenizerFile {
  struct Token {
    std::string name;  ///< as the file writes it
    TokenType type = TokenType::kAbsent;
    double score = 0;         ///< of a unigram model, or of a SentencePiece model that ranks by it
    bool is_of_model = true;  ///< false: only among the added tokens

    /// Whether a word of a text can become it.
    bool encodes() const { return type == TokenType::kNormal || type == TokenType::kUserDefined; }
  };
  struct Merge {
    int32_t left, right, merged;
    int32_t rank;  ///< lower merges first, the leftmost of equals
  };

  std::vector<Token> tokens;  ///< by id
  std::vector<Merge> merges;  ///< in the order of their ranks
  std::vector<AddedToken> added;

  TokenModel model = TokenModel::kMerges;
  Normalizer normalizer;
  Cutter cutter;
  Spelling spelling;
  bool ignore_merges = false;     ///< a word that is a token stays whole
  bool byte_fallback = false;     ///< a character that is no token becomes its bytes
  bool single_precision = false;  ///< sums of scores are rounded as SentencePiece does; `tokenizers` keeps them in double
  bool fuse_unknown = false;      ///< neighbouring characters that are no tokens are one unknown token
  int32_t unknown = -1;           ///< -1: what is no token is left out
  std::string continuing_prefix;  ///< WordPiece: before names of tokens that continue a word
  int64_t most_characters = 100;  ///< WordPiece: longer words are unknown

  std::optional<int32_t> beginning;
  bool adds_beginning = false;
  std::optional<int32_t> closing;  ///< put behind each text
  std::optional<int32_t> end;  ///< what the file says ends a text
  std::vector<int32_t> ends;   ///< more that end a generation
  std::string chat_template;

  Json document;  ///< a tokenizer.json without the arrays that are above: added_tokens, and of the model vocab and merges

  /// The ids of <0x00> to <0xFF>, -1 where the vocabulary lacks one.
  std::array<int32_t, 256> byte_tokens() const;
};

Merges merges_of(const TokenizerFile& file);

/// Ids beyond this are refused, so that a hostile file cannot ask for a huge table.
constexpr int64_t kMostTokenIds = int64_t{1} << 22;

/// Fills in what `file.document` says: model, normalizer, cutter, spelling and their options, and what is put before texts.
/// @throws Error naming `where` and the part that is missing, malformed or not supported
void read_parts(TokenizerFile& file, const std::string& where);

/// A document with a byte-level model, GPT-2's splitting rule and nothing else, to be changed and given to read_parts().
Json byte_level_document();

/// A document with SentencePiece's merges: spaces are U+2581, and one stands before a text where `space_first`.
Json sentence_piece_document(bool space_first);

/// Makes a post-processor in `file.document` that puts `file.beginning` before each text.
void put_before_texts(TokenizerFile& file);

/// `file` as a tokenizer.json.
Json tokenizer_json(const TokenizerFile& file);

}  // namespace sememe
