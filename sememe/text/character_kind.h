#pragma once
// The classes of characters that splitting rules tell apart.

#include <cstdint>

namespace sememe {

/// \p{L}, \p{N}, \s (the property White_Space); everything else, assigned or not, is kOther. Letters are told apart by case because
/// newer rules do: kUpper is \p{Lu} and \p{Lt}, kLower is \p{Ll}, kLetter is \p{Lm} and \p{Lo}; kMark is \p{M}.
enum class CharacterKind : uint8_t { kOther, kMark, kSpace, kNumber, kUpper, kLower, kLetter };

CharacterKind character_kind(char32_t code_point);

/// The kind of every code point, so that a split is a load and a compare a character. Has kCodePoints entries.
const CharacterKind* character_kinds();

constexpr bool is_letter(CharacterKind kind) {
  return kind >= CharacterKind::kUpper;
}
/// Neither \s nor \p{L} nor \p{N}.
constexpr bool is_sign(CharacterKind kind) {
  return kind <= CharacterKind::kMark;
}

}  // namespace sememe
