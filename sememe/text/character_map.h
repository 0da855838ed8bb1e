#pragma once
// SentencePiece's compiled normaliser: beginnings of texts and what they become, in a double array (Aoe 1989) as darts-clone lays it out.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sememe {

class CharacterMap {
 public:
  struct Match {
    size_t length;  ///< bytes of the text
    std::string_view replacement;
  };

  /// @param compiled little-endian: how many bytes the array takes, as uint32; the array, of uint32; the replacements, each with a NUL behind it
  /// @throws Error beginning with `where` if it is cut short
  CharacterMap(std::string_view compiled, std::string_view where);

  /// Of the beginnings of `text` that become something else, the shortest, and the longest.
  std::optional<Match> shortest(std::string_view text) const { return find(text, false); }
  std::optional<Match> longest(std::string_view text) const { return find(text, true); }

  /// Bytes of the longest replacement.
  size_t longest_replacement() const { return longest_replacement_; }

 private:
  std::optional<Match> find(std::string_view text, bool longest) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
  size_t longest_replacement_ = 0;
};

}  // namespace sememe
