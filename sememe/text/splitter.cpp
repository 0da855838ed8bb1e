#include "sememe/text/splitter.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <vector>

namespace sememe {
namespace {

using enum CharacterKind;

constexpr char32_t kCodePoints = 0x110000;

CharacterKind kind_of_category(UCharCategory category) {
  const uint32_t mask = U_MASK(category);
  if (mask & U_GC_L_MASK) return kLetter;
  if (mask & U_GC_N_MASK) return kNumber;
  return mask & U_GC_Z_MASK ? kSpace : kOther;
}

struct Range {
  char32_t first, last;
  CharacterKind kind;
};

/// Letters and numbers that Unicode 15.1 and 16.0 added. Oniguruma, which Hugging Face splits with, knows them; an
/// older ICU has them unassigned.
constexpr Range kAddedAfterUnicode15[] = {
    {0x1C89, 0x1C8A, kLetter},   {0xA7CB, 0xA7CD, kLetter},   {0xA7DA, 0xA7DC, kLetter},   {0x105C0, 0x105F3, kLetter},
    {0x10D40, 0x10D49, kNumber}, {0x10D4A, 0x10D65, kLetter}, {0x10D6F, 0x10D85, kLetter}, {0x10EC2, 0x10EC4, kLetter},
    {0x11380, 0x11389, kLetter}, {0x1138B, 0x1138B, kLetter}, {0x1138E, 0x1138E, kLetter}, {0x11390, 0x113B5, kLetter},
    {0x113B7, 0x113B7, kLetter}, {0x113D1, 0x113D1, kLetter}, {0x113D3, 0x113D3, kLetter}, {0x116D0, 0x116E3, kNumber},
    {0x11BC0, 0x11BE0, kLetter}, {0x11BF0, 0x11BF9, kNumber}, {0x13460, 0x143FA, kLetter}, {0x16100, 0x1611D, kLetter},
    {0x16130, 0x16139, kNumber}, {0x16D40, 0x16D6C, kLetter}, {0x16D70, 0x16D79, kNumber}, {0x18CFF, 0x18CFF, kLetter},
    {0x1CCF0, 0x1CCF9, kNumber}, {0x1E5D0, 0x1E5ED, kLetter}, {0x1E5F0, 0x1E5F0, kLetter}, {0x1E5F1, 0x1E5FA, kNumber},
    {0x2EBF0, 0x2EE5D, kLetter}};

std::vector<CharacterKind> make_kinds() {
  std::vector<CharacterKind> kinds(kCodePoints, kOther);
  const auto fill = [](const void* context, UChar32 start, UChar32 limit, UCharCategory category) -> UBool {
    auto& all = *static_cast<std::vector<CharacterKind>*>(const_cast<void*>(context));
    std::fill(all.begin() + start, all.begin() + limit, kind_of_category(category));
    return true;
  };
  u_enumCharTypes(fill, &kinds);
  for (const Range& added : kAddedAfterUnicode15)
    std::fill(kinds.begin() + added.first, kinds.begin() + added.last + 1, added.kind);
  // White_Space is the separators (category Z) and these controls.
  for (const char32_t control : {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}) kinds[control] = kSpace;
  return kinds;
}

/// One byte a code point, so that the split is a load and a compare a character.
const CharacterKind* kinds() {
  static const std::vector<CharacterKind> table = make_kinds();
  return table.data();
}

struct Character {
  CharacterKind kind;
  uint32_t length;  ///< bytes
};

bool continues(unsigned char byte) {
  return (byte & 0xC0) == 0x80;
}

/// The character at `text`, which is not ASCII, of at most `available` bytes.
Character long_character(const unsigned char* text, size_t available, const CharacterKind* table) {
  constexpr Character invalid{kOther, 1};
  const uint32_t lead = text[0];
  if (lead < 0xC2 || lead > 0xF4) return invalid;
  const uint32_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (available < length) return invalid;
  uint32_t code_point = lead & (0x7F >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if (!continues(text[i])) return invalid;
    code_point = code_point << 6 | (text[i] & 0x3F);
  }
  const bool overlong = (length == 3 && code_point < 0x800) || (length == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  if (overlong || surrogate || code_point >= kCodePoints) return invalid;
  return {table[code_point], length};
}

class Reader {
 public:
  explicit Reader(std::string_view text)
      : table_(kinds()), text_(reinterpret_cast<const unsigned char*>(text.data())), size_(text.size()) {}

  bool at_end(size_t position) const { return position >= size_; }
  unsigned char byte(size_t position) const { return position < size_ ? text_[position] : 0; }
  /// `position` < size.
  Character character(size_t position) const {
    const unsigned char first = text_[position];
    if (first < 0x80) return {table_[first], 1};
    return long_character(text_ + position, size_ - position, table_);
  }
  /// The end of the run of characters of `kind` that starts at `position`.
  size_t run_end(size_t position, CharacterKind kind) const {
    while (!at_end(position)) {
      const Character next = character(position);
      if (next.kind != kind) break;
      position += next.length;
    }
    return position;
  }

 private:
  const CharacterKind* table_;
  const unsigned char* text_;
  size_t size_;
};

/// Length of the contraction at the start of `text`, which begins with an apostrophe, or 0.
size_t contraction(const Reader& text) {
  const unsigned char first = text.byte(1), second = text.byte(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

/// \s+(?!\S)|\s+ : a run gives its last character to what follows, unless it has but one or nothing follows.
size_t space_run(const Reader& text) {
  size_t position = 0, last = 0;
  while (!text.at_end(position)) {
    const Character next = text.character(position);
    if (next.kind != kSpace) return last > 0 ? last : position;
    last = position;
    position += next.length;
  }
  return position;
}

}  // namespace

CharacterKind character_kind(char32_t code_point) {
  return code_point < kCodePoints ? kinds()[code_point] : kOther;
}

size_t first_word(std::string_view text) {
  if (text.empty()) return 0;
  const Reader reader(text);
  if (text[0] == '\'') {
    if (const size_t length = contraction(reader)) return length;
  }
  const size_t start = text[0] == ' ' && text.size() > 1 ? 1 : 0;
  const Character first = reader.character(start);
  if (first.kind == kSpace) return space_run(reader);
  return reader.run_end(start + first.length, first.kind);
}

size_t first_digit_piece(std::string_view text, bool individual) {
  const Reader reader(text);
  size_t position = 0;
  while (!reader.at_end(position)) {
    const Character next = reader.character(position);
    if (next.kind == kNumber) {
      if (position > 0) return position;
      return individual ? next.length : reader.run_end(position, kNumber);
    }
    position += next.length;
  }
  return position;
}

}  // namespace sememe
