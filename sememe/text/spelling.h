#pragma once
// Which bytes a token stands for, by how its name is written: in the byte-level alphabet, with U+2581 for spaces, or with "##" inside
// words.

#include <string>
#include <string_view>

#include "sememe/base/json.h"

namespace sememe {

class Spelling {
 public:
  enum class Kind { kByteLevel, kSpaces, kWordPiece };

  Spelling() = default;
  /// Reads the part "decoder" of a tokenizer.json.
  /// @throws Error naming `where` and the type that is malformed or not supported
  Spelling(const Json& decoder, std::string_view where);

  Kind kind() const { return kind_; }
  /// Texts that were encoded begin with a space that is not theirs.
  bool strips_first_space() const { return strips_first_space_; }
  /// The bytes of the token of this name; a name that is not of its alphabet stands for itself.
  std::string spell(const std::string& name) const;

 private:
  void add(const Json& decoder, std::string_view where, int depth);

  Kind kind_ = Kind::kSpaces;
  bool strips_first_space_ = false;
  bool byte_names_ = false;  ///< <0x41> is a byte
  bool cleans_up_ = false;   ///< no space before punctuation
  std::string prefix_;       ///< of what continues a word
};

/// The byte that a name such as <0x41> stands for, or -1.
int byte_of_name(std::string_view name);

}  // namespace sememe
