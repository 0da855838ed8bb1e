#pragma once
// GPT-2's splitting rule (Radford et al. 2019): text is cut into words before byte pairs are merged inside each of
// them.
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sememe {

enum class CharacterKind : uint8_t { kOther, kSpace, kLetter, kNumber };

/// \p{L}, \p{N} or \s (the property White_Space) of a Unicode code point; everything else, assigned or not, is kOther.
CharacterKind character_kind(char32_t code_point);

/// Number of bytes of the first word of `text`; 0 only if `text` is empty. A byte that is not part of valid UTF-8
/// counts as one character of kOther.
size_t first_word(std::string_view text);

/// Number of bytes of the first piece of `text` when every character of \p{N} (every run of them if not `individual`)
/// stands alone.
size_t first_digit_piece(std::string_view text, bool individual);

/// Calls `visit(word)` for each word of `text`, in order; together they are the text.
template <class Visit>
void for_each_word(std::string_view text, const Visit& visit) {
  while (!text.empty()) {
    const size_t length = first_word(text);
    visit(text.substr(0, length));
    text.remove_prefix(length);
  }
}

}  // namespace sememe
