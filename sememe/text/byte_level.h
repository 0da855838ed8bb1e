#pragma once
// GPT-2's printable alphabet: each byte is written as one Unicode character, so that tokens are text in a JSON file.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sememe {

/// The character that stands for each byte: printable Latin-1 bytes for themselves, the others from U+0100 on, in
/// order.
const std::array<char32_t, 256>& byte_characters();

/// `bytes` written in the alphabet, as UTF-8.
std::string to_byte_level(std::string_view bytes);

/// The bytes that `text` stands for, or nothing if a character of it is not of the alphabet.
std::optional<std::string> from_byte_level(std::string_view text);

}  // namespace sememe
