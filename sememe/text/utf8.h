#pragma once
// UTF-8, a character at a time, of texts that may hold any bytes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sememe {

constexpr char32_t kCodePoints = 0x110000;
/// Stands for a byte that is not part of valid UTF-8.
constexpr char32_t kNoCharacter = ~char32_t{0};

struct Character {
  char32_t code_point = kNoCharacter;
  uint32_t length = 1;  ///< bytes

  bool valid() const { return code_point != kNoCharacter; }
};

/// The character at the start of `text`, which must not be empty. A byte that is not part of valid UTF-8 is one character of its own.
inline Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xC2 || lead > 0xF4) return {};
  const uint32_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < length) return {};
  char32_t code_point = lead & (0x7Fu >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code_point = code_point << 6 | (byte(i) & 0x3Fu);
  }
  const bool overlong = (length == 3 && code_point < 0x800) || (length == 4 && code_point < 0x10000);
  const bool surrogate = code_point >= 0xD800 && code_point < 0xE000;
  if (overlong || surrogate || code_point >= kCodePoints) return {};
  return {code_point, length};
}

/// Appends `code_point`, which must be one of Unicode.
void append_character(std::string& text, char32_t code_point);

/// `text` with every `from`, which must not be empty, replaced by `to`.
std::string replaced(std::string_view text, std::string_view from, std::string_view to);

}  // namespace sememe
