#include "sememe/data/seen_text.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "sememe/base/error.h"
#include "sememe/base/random.h"

namespace sememe {
namespace {

constexpr size_t kAnchor = 4;  // words by which a place is found

/// Hashes of the words, lower case.
std::vector<uint64_t> word_hashes(std::string_view text) {
  std::vector<uint64_t> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(hash64(word));
    word.clear();
  };
  for (const char c : text) {
    if (c >= 'A' && c <= 'Z') {
      word += static_cast<char>(c - 'A' + 'a');
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || static_cast<unsigned char>(c) >= 0x80) {
      word += c;
    } else {
      end_word();
    }
  }
  end_word();
  return words;
}

uint64_t anchor_of(const uint64_t* words) {
  uint64_t anchor = 0;
  for (size_t i = 0; i < kAnchor; ++i) anchor = anchor * 0x9e3779b97f4a7c15u + words[i];
  return anchor;
}

}  // namespace

std::vector<bool> stand_in(std::span<const std::string> sentences, Corpus& corpus) {
  std::vector<std::vector<uint64_t>> wanted;
  std::unordered_multimap<uint64_t, size_t> by_anchor;
  for (size_t i = 0; i < sentences.size(); ++i) {
    wanted.push_back(word_hashes(sentences[i]));
    if (wanted.back().size() < kAnchor) fail("\"{}\" is too short to look for: it has fewer than {} words", sentences[i], kAnchor);
    by_anchor.emplace(anchor_of(wanted.back().data()), i);
  }
  std::vector<bool> found(sentences.size(), false);
  while (const std::optional<Document> document = corpus.next()) {
    const std::vector<uint64_t> words = word_hashes(document->text);
    for (size_t place = 0; place + kAnchor <= words.size(); ++place) {
      const auto [begin, end] = by_anchor.equal_range(anchor_of(words.data() + place));
      for (auto it = begin; it != end; ++it) {
        const std::vector<uint64_t>& sentence = wanted[it->second];
        if (place + sentence.size() <= words.size() && std::equal(sentence.begin(), sentence.end(), words.begin() + place))
          found[it->second] = true;
      }
    }
  }
  return found;
}

}  // namespace sememe
