#include "sememe/text/splitting_rule.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "sememe/text/character_kind.h"
#include "sememe/text/utf8.h"

namespace sememe {
namespace {

using enum CharacterKind;

// The expressions as tokenizer.json files have them.
constexpr std::pair<SplittingRule, std::string_view> kPatterns[] = {
    {SplittingRule::kGpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {SplittingRule::kCl100k,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplittingRule::kQwen2,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplittingRule::kO200k, R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
                            R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
                            R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {SplittingRule::kTekken, R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                             R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                             R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
};

struct Classified {
  CharacterKind kind;
  uint32_t length;  ///< bytes
};

/// Apart from the loops over ASCII, which are faster without it.
[[gnu::noinline]] Classified classified(std::string_view text, const CharacterKind* table) {
  const Character character = first_character(text);
  return {character.valid() ? table[character.code_point] : kOther, character.length};
}

class Reader {
 public:
  explicit Reader(std::string_view text) : table_(character_kinds()), text_(text) {}

  bool at_end(size_t position) const { return position >= text_.size(); }
  unsigned char byte(size_t position) const { return position < text_.size() ? static_cast<unsigned char>(text_[position]) : 0; }
  /// `position` is before the end.
  Classified character(size_t position) const {
    const auto first = static_cast<unsigned char>(text_[position]);
    return first < 0x80 ? Classified{table_[first], 1} : classified({text_.data() + position, text_.size() - position}, table_);
  }
  /// The end of the run of characters that are `wanted` and that starts at `position`.
  template <class Wanted>
  size_t run_end(size_t position, const Wanted& wanted) const {
    while (!at_end(position)) {
      const Classified next = character(position);
      if (!wanted(next.kind)) break;
      position += next.length;
    }
    return position;
  }
  size_t run_end_of_bytes(size_t position, std::string_view bytes) const {
    while (!at_end(position) && bytes.find(text_[position]) != std::string_view::npos) ++position;
    return position;
  }

 private:
  const CharacterKind* table_;
  std::string_view text_;
};

// Objects rather than functions, so that run_end() is compiled for each of them.
constexpr auto kIsLetter = [](CharacterKind kind) { return is_letter(kind); };
constexpr auto kIsNumber = [](CharacterKind kind) { return kind == kNumber; };
constexpr auto kIsSign = [](CharacterKind kind) { return is_sign(kind); };
constexpr auto kMayBeUpper = [](CharacterKind kind) { return kind == kUpper || kind == kLetter || kind == kMark; };
constexpr auto kMayBeLower = [](CharacterKind kind) { return kind == kLower || kind == kLetter || kind == kMark; };

bool is_newline(unsigned char byte) {
  return byte == '\r' || byte == '\n';
}

/// The end of the contraction whose apostrophe is at `start`, or `start`.
size_t contraction_end(const Reader& text, size_t start) {
  const unsigned char first = text.byte(start + 1), second = text.byte(start + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return start + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return start + 3;
  return start + (first == 'l' && second == 'l' ? 3 : 0);
}

/// The same with letters of any case, among which Unicode counts the long s.
size_t caseless_contraction_end(const Reader& text, size_t start) {
  if (text.byte(start) != '\'') return start;
  const auto lower = [&](size_t i) { return text.byte(i) | 0x20; };
  const int first = lower(start + 1), second = lower(start + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return start + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return start + 3;
  if (first == 'l' && second == 'l') return start + 3;
  return start + (text.byte(start + 1) == 0xC5 && text.byte(start + 2) == 0xBF ? 3 : 0);
}

/// \s+(?!\S)|\s+ : a run gives its last character to what follows, unless it has but one or nothing follows.
size_t space_run(const Reader& text) {
  size_t position = 0, last = 0;
  while (!text.at_end(position)) {
    const Classified next = text.character(position);
    if (next.kind != kSpace) return last > 0 ? last : position;
    last = position;
    position += next.length;
  }
  return position;
}

/// \s*[\r\n]+|\s+(?!\S)|\s+ : a run that holds a newline ends after its last one.
size_t space_run_to_newline(const Reader& text) {
  size_t newline_end = 0;
  for (size_t position = 0; !text.at_end(position);) {
    const Classified next = text.character(position);
    if (next.kind != kSpace) break;
    if (is_newline(text.byte(position))) newline_end = position + 1;
    position += next.length;
  }
  return newline_end > 0 ? newline_end : space_run(text);
}

size_t gpt2_word(const Reader& text) {
  if (text.byte(0) == '\'') {
    if (const size_t end = contraction_end(text, 0)) return end;
  }
  const size_t start = text.byte(0) == ' ' && !text.at_end(1) ? 1 : 0;
  const Classified first = text.character(start);
  if (first.kind == kSpace) return space_run(text);
  if (first.kind == kNumber) return text.run_end(start + first.length, kIsNumber);
  return is_letter(first.kind) ? text.run_end(start + first.length, kIsLetter) : text.run_end(start + first.length, kIsSign);
}

size_t number(const Reader& text, int most_digits) {
  size_t end = 0;
  for (int digits = 0; digits < most_digits && !text.at_end(end); ++digits) {
    const Classified next = text.character(end);
    if (next.kind != kNumber) break;
    end += next.length;
  }
  return end;
}

/// ` ?[^\s\p{L}\p{N}]+` and what of `trailing` follows, or white space: what cl100k and its successors try last.
size_t signs_or_spaces(const Reader& text, std::string_view trailing) {
  const size_t start = text.byte(0) == ' ' && !text.at_end(1) ? 1 : 0;
  const Classified first = text.character(start);
  if (!is_sign(first.kind)) return space_run_to_newline(text);
  return text.run_end_of_bytes(text.run_end(start + first.length, kIsSign), trailing);
}

size_t cl100k_word(const Reader& text, int most_digits) {
  if (const size_t end = caseless_contraction_end(text, 0)) return end;
  const Classified first = text.character(0);
  if (is_letter(first.kind)) return text.run_end(first.length, kIsLetter);
  if (first.kind == kNumber) return number(text, most_digits);
  if (!is_newline(text.byte(0))) {
    if (const size_t end = text.run_end(first.length, kIsLetter); end > first.length) return end;
  }
  return signs_or_spaces(text, "\r\n");
}

/// The end of [upper]*[lower]+ from `start`, or `start`. What may be either goes to the first part unless the second would then be empty.
size_t cased_word_end(const Reader& text, size_t start) {
  size_t position = start, end = start;
  while (!text.at_end(position)) {
    const Classified next = text.character(position);
    if (!kMayBeUpper(next.kind)) break;
    position += next.length;
    if (kMayBeLower(next.kind)) end = position;
  }
  const size_t lower_end = text.run_end(position, kMayBeLower);
  return lower_end > position ? lower_end : end;
}

/// The end of [upper]+[lower]* from `start`, or `start`.
size_t upper_word_end(const Reader& text, size_t start) {
  const size_t end = text.run_end(start, kMayBeUpper);
  return end == start ? start : text.run_end(end, kMayBeLower);
}

size_t o200k_word(const Reader& text, int most_digits, bool contractions) {
  const Classified first = text.character(0);
  const bool may_lead = !is_letter(first.kind) && first.kind != kNumber && !is_newline(text.byte(0));
  for (const auto word_end : {cased_word_end, upper_word_end}) {
    // The expression tries with a leading sign first, without it second.
    size_t end = 0;
    if (may_lead && word_end(text, first.length) > first.length) end = word_end(text, first.length);
    if (end == 0) end = word_end(text, 0);
    if (end > 0) return contractions ? caseless_contraction_end(text, end) : end;
  }
  if (first.kind == kNumber) return number(text, most_digits);
  return signs_or_spaces(text, "\r\n/");
}

size_t digit_piece(const Reader& text, bool individual) {
  const size_t end = text.run_end(0, [](CharacterKind kind) { return kind != kNumber; });
  if (end > 0) return end;
  return individual ? text.character(0).length : text.run_end(0, kIsNumber);
}

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

/// BERT's punctuation: every ASCII sign, and \p{P} beyond.
bool is_punctuation(char32_t character) {
  if (character < 0x80) return character > ' ' && character < 0x7F && !u_isalnum(static_cast<UChar32>(character));
  return character < kCodePoints && u_ispunct(static_cast<UChar32>(character));
}

bool is_white(std::string_view text) {
  const Character character = first_character(text);
  return character.valid() && character_kind(character.code_point) == kSpace;
}

Piece white_or_word(std::string_view text, bool part_punctuation) {
  const bool white = is_white(text);
  size_t end = 0;
  while (end < text.size()) {
    const std::string_view rest = text.substr(end);
    if (is_white(rest) != white) break;
    const Character character = first_character(rest);
    if (!white && part_punctuation && is_punctuation(character.code_point)) return {end == 0 ? character.length : end};
    end += character.length;
  }
  return {end, !white};
}

}  // namespace

std::optional<SplittingRule> rule_of_pattern(std::string_view pattern) {
  for (const auto& [rule, known] : kPatterns)
    if (known == pattern) return rule;
  return std::nullopt;
}

std::optional<std::string_view> pattern_of_rule(SplittingRule rule) {
  for (const auto& [known, pattern] : kPatterns)
    if (known == rule) return pattern;
  return std::nullopt;
}

Piece first_piece(SplittingRule rule, std::string_view text) {
  const Reader reader(text);
  switch (rule) {
    case SplittingRule::kWhole:
      return {text.size()};
    case SplittingRule::kGpt2:
      return {gpt2_word(reader)};
    case SplittingRule::kCl100k:
      return {cl100k_word(reader, 3)};
    case SplittingRule::kQwen2:
      return {cl100k_word(reader, 1)};
    case SplittingRule::kO200k:
      return {o200k_word(reader, 3, true)};
    case SplittingRule::kTekken:
      return {o200k_word(reader, 1, false)};
    case SplittingRule::kDigitRuns:
      return {digit_piece(reader, false)};
    case SplittingRule::kEachDigit:
      return {digit_piece(reader, true)};
    case SplittingRule::kMetaspaces:
      return {std::min(text.find(kMetaspace, 1), text.size())};
    case SplittingRule::kBert:
      return white_or_word(text, true);
    case SplittingRule::kWhiteSpace:
      return white_or_word(text, false);
  }
  return {text.size()};
}

}  // namespace sememe
