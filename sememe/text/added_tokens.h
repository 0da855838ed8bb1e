#pragma once
// Tokens that are cut out of a text before anything else is done to it: special ones such as <|im_start|>, and words or runs of spaces that
// a vocabulary lists beside what its model makes.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/text/character_kind.h"
#include "sememe/text/trie.h"
#include "sememe/text/utf8.h"

namespace sememe {

struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;     ///< stands for no text: found only where asked for
  bool normalized = false;  ///< sought in the normalised text, by its normalised content, instead of the text as it came
  bool left_strip = false;  ///< takes the white space before it, too
  bool right_strip = false;
};

class AddedTokens {
 public:
  AddedTokens() = default;
  explicit AddedTokens(std::span<const AddedToken> tokens);
  bool empty() const { return trie_.empty(); }

  /// Cuts `text` at the leftmost longest tokens: calls `visit(piece, id)` for the pieces between them, with id -1, and for the tokens.
  template <class Visit>
  void cut(std::string_view text, const Visit& visit) const;

 private:
  Trie trie_;
  std::vector<std::pair<bool, bool>> strips_;  ///< left and right, by index of the token
  std::vector<int32_t> ids_;
};

template <class Visit>
void AddedTokens::cut(std::string_view text, const Visit& visit) const {
  const auto is_space = [](std::string_view at) {
    const Character character = first_character(at);
    return character.valid() && character_kind(character.code_point) == CharacterKind::kSpace;
  };
  size_t start = 0, position = 0;
  while (position < text.size()) {
    if (!trie_.may_begin(static_cast<unsigned char>(text[position]))) {
      ++position;
      continue;
    }
    const Trie::Match match = trie_.longest_prefix(text.substr(position));
    if (match.id < 0) {
      ++position;
      continue;
    }
    const auto [left_strip, right_strip] = strips_[match.id];
    size_t piece_end = position;
    while (left_strip && piece_end > start) {
      size_t before = piece_end - 1;
      while (before > start && (static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
      if (!is_space(text.substr(before, piece_end - before))) break;
      piece_end = before;
    }
    if (piece_end > start) visit(text.substr(start, piece_end - start), -1);
    position += match.length;
    while (right_strip && position < text.size() && is_space(text.substr(position)))
      position += first_character(text.substr(position)).length;
    visit(text.substr(piece_end, position - piece_end), ids_[match.id]);
    start = position;
  }
  if (start < text.size()) visit(text.substr(start), -1);
}

}  // namespace sememe
