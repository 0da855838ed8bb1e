#include "sememe/text/character_map.h"

#include <algorithm>
#include <cstring>

#include "sememe/base/error.h"

namespace sememe {
namespace {

// A unit of the array. It is at its parent's position, xor its parent's offset, xor its label; its value, if it has one, is in the unit at its
// own position xor its own offset.
bool has_value(uint32_t unit) { return unit >> 8 & 1; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFFu; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FFu; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

}  // namespace

CharacterMap::CharacterMap(std::string_view compiled, std::string_view where) {
  uint32_t bytes = 0;
  if (compiled.size() >= sizeof bytes) std::memcpy(&bytes, compiled.data(), sizeof bytes);
  if (bytes == 0 || bytes % sizeof(uint32_t) != 0 || bytes > compiled.size() - sizeof bytes)
    fail("{}: the compiled map of characters has {} bytes, which do not hold an array of {}", where, compiled.size(), bytes);
  units_.resize(bytes / sizeof(uint32_t));
  std::memcpy(units_.data(), compiled.data() + sizeof bytes, bytes);
  replacements_ = compiled.substr(sizeof bytes + bytes);
  if (!replacements_.empty() && replacements_.back() != '\0') fail("{}: the compiled map of characters ends within a replacement", where);
  for (size_t at = 0; at < replacements_.size();) {
    const size_t length = replacements_.find('\0', at) - at;
    longest_replacement_ = std::max(longest_replacement_, length);
    at += length + 1;
  }
}

std::optional<CharacterMap::Match> CharacterMap::find(std::string_view text, bool longest) const {
  std::optional<Match> found;
  size_t position = offset_of(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    position ^= byte;
    if (position >= units_.size() || label_of(units_[position]) != byte) break;
    const uint32_t unit = units_[position];
    position ^= offset_of(unit);
    if (!has_value(unit) || position >= units_.size()) continue;
    const size_t start = value_of(units_[position]);
    if (start >= replacements_.size()) continue;
    found = Match{i + 1, std::string_view(replacements_.data() + start)};
    if (!longest) break;
  }
  return found;
}

}  // namespace sememe
