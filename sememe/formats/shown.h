#pragma once
// Names that come from files, as part of one-line messages.

#include <string>
#include <string_view>

namespace sememe {

/// At most 80 bytes, control characters replaced by '?'.
std::string shown(std::string_view name);

}  // namespace sememe
