#pragma once
// Bytes as text: base64 (RFC 4648, section 4).

#include <string>
#include <string_view>

namespace sememe {

std::string to_base64(std::string_view bytes);

/// @throws Error beginning with `where` if a character is none of base64's
std::string from_base64(std::string_view text, std::string_view where);

}  // namespace sememe
