#pragma once
// The text that a dictionary is described on: its tokens in the order in which rows of activations come, and the word that each token
// belongs to.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sememe/text/tokenizer.h"

namespace sememe {

/// A piece of text around a position, in parts that are valid UTF-8 each; a character that several tokens share makes one part.
struct TextWindow {
  std::vector<std::string> parts;
  std::vector<int64_t> first_positions;  ///< of each part; the part ends where the next begins
  int64_t end = 0;                       ///< the position after the last part
};

enum class TextUnit { kToken, kWord };

class DescribedText {
 public:
  explicit DescribedText(const Tokenizer& tokenizer) : tokenizer_(tokenizer), starts_{0} {}

  /// Adds the tokens of one context, without the leading end-of-text.
  void add_context(std::span<const int32_t> tokens);

  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }  ///< positions
  int64_t contexts() const { return static_cast<int64_t>(starts_.size()) - 1; }
  /// The token at a position, or the number of its word.
  int32_t unit(TextUnit kind, int64_t position) const { return kind == TextUnit::kToken ? tokens_[position] : words_[position]; }
  std::string spelling(TextUnit kind, int32_t unit) const;
  int32_t context(int64_t position) const { return contexts_[position]; }
  int64_t context_begin(int64_t context) const { return starts_[context]; }
  int64_t context_end(int64_t context) const { return starts_[context + 1]; }

  /// The text has two halves: contexts of even (0) and odd (1) number.
  int half(int64_t position) const { return contexts_[position] % 2; }
  int64_t half_size(int half) const { return half_sizes_[half]; }
  /// Positions of a half at which the unit stands.
  int64_t occurrences(TextUnit kind, int32_t unit, int half) const { return counts_[static_cast<int>(kind)][half][unit]; }

  /// At most `before` tokens before the position and `after` after it, within its context.
  TextWindow window(int64_t position, int64_t before, int64_t after) const;

 private:
  int32_t intern(const std::string& word);
  void count(size_t begin);

  Tokenizer tokenizer_;
  std::vector<int32_t> tokens_, words_, contexts_;
  std::vector<int64_t> starts_;
  std::vector<std::string> spellings_;
  std::unordered_map<std::string, int32_t> ids_;
  std::array<int64_t, 2> half_sizes_{};
  std::array<std::array<std::vector<int64_t>, 2>, 2> counts_;  // by kind of unit and half
};

/// The words that the bytes [offsets[i], offsets[i + 1]) of each token belong to: the lower-cased run of letters, digits and marks around
/// the first of its bytes that is no space, or the run of punctuation there; "⏎" for a token of line ends and "␣" for one of other spaces.
/// A word of more than 40 bytes is cut.
/// @param text    valid UTF-8 or not; bytes that are in no character count as punctuation
/// @param offsets [tokens + 1], ascending
std::vector<std::string> words_of_tokens(std::string_view text, std::span<const size_t> offsets);

}  // namespace sememe
