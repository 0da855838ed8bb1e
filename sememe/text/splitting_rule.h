#pragma once
// Where text is cut into the words inside which tokens are made. Published tokenizers name their rule by a regular expression; the ones
// in use are few, so each is matched by hand, which is an order of magnitude faster than running the expression.

#include <cstddef>
#include <optional>
#include <string_view>

namespace sememe {

enum class SplittingRule {
  kWhole,       ///< one word
  kGpt2,        ///< GPT-2 (Radford et al. 2019); also Pythia, Phi, OLMo, StarCoder
  kCl100k,      ///< tiktoken's cl100k_base: Llama 3
  kQwen2,       ///< the same with numbers cut into single digits
  kO200k,       ///< tiktoken's o200k_base: words also part where lower case turns to upper
  kTekken,      ///< Mistral's: o200k without contractions, numbers cut into single digits
  kDigitRuns,   ///< runs of \p{N} and what is between them
  kEachDigit,   ///< every \p{N} alone and what is between them
  kMetaspaces,  ///< before every U+2581
  kBert,        ///< white space falls away, punctuation stands alone
  kWhiteSpace,  ///< white space falls away
};

/// The rule that a published regular expression stands for, or nothing.
std::optional<SplittingRule> rule_of_pattern(std::string_view pattern);
/// The published expression of a rule that has one.
std::optional<std::string_view> pattern_of_rule(SplittingRule rule);

struct Piece {
  size_t length;     ///< bytes, at least 1
  bool kept = true;  ///< false: falls away
};

/// The first piece of `text`, which must not be empty. A byte that is not part of valid UTF-8 counts as one sign.
Piece first_piece(SplittingRule rule, std::string_view text);

/// Calls `visit(word)` for each word of `text`, in order.
template <class Visit>
void for_each_word(SplittingRule rule, std::string_view text, const Visit& visit) {
  while (!text.empty()) {
    const Piece piece = first_piece(rule, text);
    if (piece.kept) visit(text.substr(0, piece.length));
    text.remove_prefix(piece.length);
  }
}

}  // namespace sememe
