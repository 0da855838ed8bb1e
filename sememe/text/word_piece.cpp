#include "sememe/text/word_piece.h"

#include "sememe/text/utf8.h"

namespace sememe {

WordPiece::WordPiece(const TokenizerFile& file) : most_characters_(file.most_characters), unknown_(file.unknown) {
  const std::string& prefix = file.continuing_prefix;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    if (!token.encodes()) continue;
    const std::string_view name = token.name;
    beginnings_.insert(name, static_cast<int32_t>(id));
    if (name.starts_with(prefix)) continuations_.insert(name.substr(prefix.size()), static_cast<int32_t>(id));
  }
}

void WordPiece::segment(std::string_view word, std::vector<int32_t>& ids) const {
  int64_t characters = 0;
  for (size_t at = 0; at < word.size(); at += first_character(word.substr(at)).length) ++characters;
  const size_t before = ids.size();
  bool covered = characters <= most_characters_;
  for (size_t start = 0; covered && start < word.size();) {
    const Trie::Match match = (start == 0 ? beginnings_ : continuations_).longest_prefix(word.substr(start));
    covered = match.id >= 0;
    start += match.length;
    ids.push_back(match.id);
  }
  if (covered) return;
  ids.resize(before);
  if (unknown_ >= 0) ids.push_back(unknown_);
}

}  // namespace sememe
