#include "sememe/features/described_text.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>

#include "sememe/data/byte_stream.h"

namespace sememe {
namespace {

constexpr size_t kLongestWord = 40;

enum class Kind : uint8_t { kLineEnd, kSpace, kWord, kMark };

Kind kind_of(UChar32 character) {
  if (character < 0) return Kind::kMark;
  if (character == '\n' || character == '\r') return Kind::kLineEnd;
  if (u_isUWhiteSpace(character)) return Kind::kSpace;
  if (u_isalnum(character) || u_charType(character) == U_NON_SPACING_MARK) return Kind::kWord;
  return Kind::kMark;
}

/// The kind of the character that each byte belongs to.
std::vector<Kind> kinds_of(std::string_view text) {
  std::vector<Kind> kinds(text.size());
  const auto* const bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (size_t begin = 0, next = 0; begin < text.size(); begin = next) {
    UChar32 character;
    U8_NEXT(bytes, next, text.size(), character);
    std::fill(kinds.begin() + begin, kinds.begin() + next, kind_of(character));
  }
  return kinds;
}

std::string lower_case(std::string_view word) {
  std::string lower;
  const auto* const bytes = reinterpret_cast<const uint8_t*>(word.data());
  for (size_t next = 0; next < word.size();) {
    UChar32 character;
    U8_NEXT(bytes, next, word.size(), character);
    uint8_t encoded[U8_MAX_LENGTH];
    size_t length = 0;
    U8_APPEND_UNSAFE(encoded, length, character < 0 ? 0xFFFD : u_tolower(character));
    if (lower.size() + length > kLongestWord) break;
    lower.append(reinterpret_cast<const char*>(encoded), length);
  }
  return lower;
}

/// True if the bytes end within a character.
bool ends_within_character(std::string_view bytes) {
  for (size_t back = 1; back <= std::min<size_t>(3, bytes.size()); ++back) {
    const auto byte = static_cast<uint8_t>(bytes[bytes.size() - back]);
    if (U8_IS_TRAIL(byte)) continue;
    return U8_IS_LEAD(byte) && static_cast<size_t>(U8_COUNT_TRAIL_BYTES(byte)) >= back;
  }
  return false;
}

}  // namespace

std::vector<std::string> words_of_tokens(std::string_view text, std::span<const size_t> offsets) {
  const std::vector<Kind> kinds = kinds_of(text);
  std::vector<std::string> words;
  for (size_t token = 0; token + 1 < offsets.size(); ++token) {
    size_t begin = offsets[token];
    bool line_end = false;
    for (; begin < offsets[token + 1] && kinds[begin] <= Kind::kSpace; ++begin) line_end |= kinds[begin] == Kind::kLineEnd;
    if (begin == offsets[token + 1]) {
      words.emplace_back(line_end ? "⏎" : "␣");
      continue;
    }
    const Kind kind = kinds[begin];
    size_t end = begin;
    while (begin > 0 && kinds[begin - 1] == kind) --begin;
    while (end < text.size() && kinds[end] == kind) ++end;
    words.push_back(lower_case(text.substr(begin, end - begin)));
  }
  return words;
}

void DescribedText::add_context(std::span<const int32_t> tokens) {
  std::string text;
  std::vector<size_t> offsets{0};
  for (const int32_t token : tokens) {
    text += tokenizer_.token(token);
    offsets.push_back(text.size());
  }
  const size_t begin = tokens_.size();
  for (const std::string& word : words_of_tokens(text, offsets)) words_.push_back(intern(word));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  contexts_.insert(contexts_.end(), tokens.size(), static_cast<int32_t>(contexts()));
  starts_.push_back(size());
  count(begin);
}

void DescribedText::count(size_t begin) {
  const size_t sizes[2] = {static_cast<size_t>(tokenizer_.size()), spellings_.size()};
  for (int kind = 0; kind < 2; ++kind)
    for (std::vector<int64_t>& counts : counts_[kind]) counts.resize(std::max(counts.size(), sizes[kind]));
  for (size_t i = begin; i < tokens_.size(); ++i) {
    const int half = contexts_[i] % 2;
    ++half_sizes_[half];
    ++counts_[static_cast<int>(TextUnit::kToken)][half][tokens_[i]];
    ++counts_[static_cast<int>(TextUnit::kWord)][half][words_[i]];
  }
}

int32_t DescribedText::intern(const std::string& word) {
  const auto [found, added] = ids_.try_emplace(word, static_cast<int32_t>(spellings_.size()));
  if (added) spellings_.push_back(word);
  return found->second;
}

std::string DescribedText::spelling(TextUnit kind, int32_t unit) const {
  if (kind == TextUnit::kWord) return spellings_[unit];
  std::string text(tokenizer_.token(unit));
  repair_utf8(text);
  return text;
}

TextWindow DescribedText::window(int64_t position, int64_t before, int64_t after) const {
  const int64_t begin = std::max(context_begin(context(position)), position - before);
  TextWindow window;
  window.end = std::min(context_end(context(position)), position + after + 1);
  bool open = false;
  for (int64_t i = begin; i < window.end; ++i) {
    if (!open) {
      window.parts.emplace_back();
      window.first_positions.push_back(i);
    }
    window.parts.back() += tokenizer_.token(tokens_[i]);
    open = ends_within_character(window.parts.back());
  }
  for (std::string& part : window.parts) repair_utf8(part);
  return window;
}

}  // namespace sememe
