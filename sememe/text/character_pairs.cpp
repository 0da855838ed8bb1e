#include "sememe/text/character_pairs.h"

#include <algorithm>
#include <bit>

#include "sememe/text/utf8.h"

namespace sememe {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

/// Polynomial hashes of all parts of one string, each in constant time: every way to cut a quarter of a million names is looked up.
class PartHashes {
 public:
  void set(std::string_view text) {
    prefixes_.resize(text.size() + 1);
    while (powers_.size() <= text.size()) powers_.push_back(powers_.back() * kBase);
    for (size_t i = 0; i < text.size(); ++i) prefixes_[i + 1] = prefixes_[i] * kBase + static_cast<unsigned char>(text[i]) + 1;
  }
  uint64_t prefix(size_t length) const { return prefixes_[length]; }
  uint64_t suffix(size_t start) const { return prefixes_.back() - prefixes_[start] * powers_[prefixes_.size() - 1 - start]; }

 private:
  static constexpr uint64_t kBase = 0x9E3779B97F4A7C15u;
  std::vector<uint64_t> prefixes_{0}, powers_{1};
};

/// Ids by name, for names whose hash is known: open addressing, a third full at most.
class NameTable {
 public:
  NameTable(const std::vector<TokenizerFile::Token>& tokens, size_t size) : tokens_(tokens), slots_(std::bit_ceil(3 * size + 1)) {}

  /// @returns false if the name is there already
  bool insert(uint64_t hash, int32_t id) {
    Slot& slot = slots_[place(hash, tokens_[id].name)];
    if (slot.id >= 0) return false;
    slot = {hash, id};
    return true;
  }
  /// -1 if there is none.
  int32_t find(uint64_t hash, std::string_view name) const { return slots_[place(hash, name)].id; }

 private:
  struct Slot {
    uint64_t hash = 0;
    int32_t id = -1;
  };
  size_t place(uint64_t hash, std::string_view name) const {
    const size_t mask = slots_.size() - 1;
    size_t index = (hash ^ hash >> 32) & mask;
    while (slots_[index].id >= 0 && (slots_[index].hash != hash || tokens_[slots_[index].id].name != name)) index = (index + 1) & mask;
    return index;
  }

  const std::vector<TokenizerFile::Token>& tokens_;
  std::vector<Slot> slots_;
};

}  // namespace

CharacterPairs::CharacterPairs(const TokenizerFile& file)
    : merges_(merges_of(file)),
      byte_ids_(file.byte_tokens()),
      unknown_(file.unknown),
      byte_fallback_(file.byte_fallback),
      fuse_unknown_(file.fuse_unknown),
      whole_words_first_(file.ignore_merges) {
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    if (!token.encodes() || token.name.empty()) continue;
    const Character character = first_character(token.name);
    if (character.valid() && character.length == token.name.size()) characters_.emplace(character.code_point, static_cast<int32_t>(id));
    if (whole_words_first_) whole_words_.emplace(token.name, static_cast<int32_t>(id));
    for (size_t at = token.name.find(kMetaspace, 1); at < token.name.size(); at = token.name.find(kMetaspace, at + 1))
      joined_[static_cast<unsigned char>(token.name[at - 1])] = true;
  }
  // Where U+2581 is itself unknown, it is one unknown token with what stands before it.
  if (!characters_.contains(first_character(kMetaspace).code_point)) joined_.fill(true);
}

void CharacterPairs::add_unknown(std::string_view character, std::vector<int32_t>& ids) const {
  const auto has_token = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; };
  if (byte_fallback_ && std::all_of(character.begin(), character.end(), has_token)) {
    for (const char byte : character) ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  } else if (unknown_ >= 0 && !(fuse_unknown_ && !ids.empty() && ids.back() == unknown_)) {
    ids.push_back(unknown_);
  }
}

void CharacterPairs::segment(std::string_view word, std::vector<int32_t>& ids) const {
  if (whole_words_first_) {
    if (const auto found = whole_words_.find(word); found != whole_words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  while (!word.empty()) {
    const Character character = first_character(word);
    const auto found = character.valid() ? characters_.find(character.code_point) : characters_.end();
    if (found != characters_.end()) {
      ids.push_back(found->second);
    } else {
      add_unknown(word.substr(0, character.length), ids);
    }
    word.remove_prefix(character.length);
  }
  merges_.apply(ids);
}

size_t CharacterPairs::independent_prefix(std::string_view word) const {
  if (whole_words_first_) return word.size();
  for (size_t at = word.find(kMetaspace, 1); at < word.size(); at = word.find(kMetaspace, at + 1))
    if (!joined_[static_cast<unsigned char>(word[at - 1])]) return at;
  return word.size();
}

std::vector<TokenizerFile::Merge> merges_of_scores(const std::vector<TokenizerFile::Token>& tokens) {
  NameTable ids(tokens, tokens.size());
  PartHashes hashes;
  std::vector<int32_t> order;
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].type != TokenType::kNormal || tokens[id].name.empty()) continue;
    hashes.set(tokens[id].name);
    if (ids.insert(hashes.prefix(tokens[id].name.size()), static_cast<int32_t>(id))) order.push_back(static_cast<int32_t>(id));
  }
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return tokens[a].score != tokens[b].score ? tokens[a].score > tokens[b].score : a < b; });
  std::vector<TokenizerFile::Merge> merges;
  int32_t rank = -1;
  for (size_t i = 0; i < order.size(); ++i) {
    const TokenizerFile::Token& token = tokens[order[i]];
    if (i == 0 || token.score != tokens[order[i - 1]].score) ++rank;
    const std::string_view name = token.name;
    hashes.set(name);
    for (size_t cut = first_character(name).length; cut < name.size(); cut += first_character(name.substr(cut)).length) {
      const int32_t left = ids.find(hashes.prefix(cut), name.substr(0, cut));
      if (left < 0) continue;
      const int32_t right = ids.find(hashes.suffix(cut), name.substr(cut));
      if (right >= 0) merges.push_back({left, right, order[i], rank});
    }
  }
  return merges;
}

}  // namespace sememe
