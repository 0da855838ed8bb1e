#include "sememe/text/normalizer.h"

#include <unicode/brkiter.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>

#include <algorithm>
#include <optional>

#include "sememe/base/error.h"
#include "sememe/formats/base64.h"
#include "sememe/formats/shown.h"
#include "sememe/text/character_kind.h"
#include "sememe/text/character_map.h"
#include "sememe/text/utf8.h"

namespace sememe {
namespace {

/// ICU counts in int32: long texts go part by part, cut before ASCII, which nothing joins to what is before it.
template <class Function>
void in_parts(std::string_view text, Function function) {
  constexpr size_t kPart = size_t{1} << 28;
  while (!text.empty()) {
    size_t end = text.size();
    if (end > kPart)
      for (end = kPart; end < text.size() && static_cast<unsigned char>(text[end]) >= 0x80;) ++end;
    function(text.substr(0, end));
    text.remove_prefix(end);
  }
}

class Form : public Normalizer::Step {
 public:
  explicit Form(const icu::Normalizer2& form) : form_(form) {}

  /// Bytes that are no UTF-8 stay, as ICU has it.
  std::string apply(std::string_view text) const override {
    std::string result;
    in_parts(text, [&](std::string_view part) {
      UErrorCode status = U_ZERO_ERROR;
      icu::StringByteSink<std::string> sink(&result);
      form_.normalizeUTF8(0, icu::StringPiece(part.data(), static_cast<int32_t>(part.size())), sink, nullptr, status);
      if (U_FAILURE(status)) fail("a text of {} bytes could not be brought to its Unicode normal form: {}", part.size(), u_errorName(status));
    });
    return result;
  }

 private:
  const icu::Normalizer2& form_;
};

std::shared_ptr<const Normalizer::Step> form_of(std::string_view name) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* form = name == "NFC"    ? icu::Normalizer2::getNFCInstance(status)
                                 : name == "NFD"  ? icu::Normalizer2::getNFDInstance(status)
                                 : name == "NFKC" ? icu::Normalizer2::getNFKCInstance(status)
                                                  : icu::Normalizer2::getNFKDInstance(status);
  if (U_FAILURE(status)) fail("ICU has no normal form {}: {}", name, u_errorName(status));
  return std::make_shared<Form>(*form);
}

class Prepend : public Normalizer::Step {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string apply(std::string_view text) const override { return text.empty() ? std::string() : prefix_ + std::string(text); }
  bool applies_to_tokens() const override { return false; }

 private:
  std::string prefix_;
};

class Replace : public Normalizer::Step {
 public:
  Replace(std::string from, std::string to) : from_(std::move(from)), to_(std::move(to)) {}
  std::string apply(std::string_view text) const override { return replaced(text, from_, to_); }

 private:
  std::string from_, to_;
};

/// Two spaces or more become one of `to`.
class ReplaceSpaces : public Normalizer::Step {
 public:
  explicit ReplaceSpaces(std::string to) : to_(std::move(to)) {}
  std::string apply(std::string_view text) const override {
    std::string result;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find_first_not_of(' ', at), text.size());
      if (end - at >= 2) {
        result += to_;
        at = end;
      } else {
        result += text[at++];
      }
    }
    return result;
  }

 private:
  std::string to_;
};

/// Removes white space at either end.
class Strip : public Normalizer::Step {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  std::string apply(std::string_view text) const override {
    size_t start = text.size(), end = 0;
    for (size_t at = 0; at < text.size();) {
      const Character next = first_character(text.substr(at));
      const bool white = next.valid() && character_kind(next.code_point) == CharacterKind::kSpace;
      if (!white) start = std::min(start, at);
      at += next.length;
      if (!white) end = at;
    }
    if (!left_) start = 0;
    if (!right_) end = text.size();
    return start < end ? std::string(text.substr(start, end - start)) : std::string();
  }

 private:
  bool left_, right_;
};

/// Each character of a text becomes none, one or some.
class PerCharacter : public Normalizer::Step {
 public:
  std::string apply(std::string_view text) const override {
    std::string result;
    while (!text.empty()) {
      const Character next = first_character(text);
      if (next.valid()) {
        append(next.code_point, result);
      } else {
        result += text[0];
      }
      text.remove_prefix(next.length);
    }
    return result;
  }
  virtual void append(char32_t character, std::string& result) const = 0;
};

class Lowercase : public PerCharacter {
  void append(char32_t character, std::string& result) const override {
    constexpr char32_t kCapitalIWithDot = 0x130;  // the one letter whose lower case is two characters
    append_character(result, character == kCapitalIWithDot ? U'i' : static_cast<char32_t>(u_tolower(static_cast<UChar32>(character))));
    if (character == kCapitalIWithDot) append_character(result, 0x307);
  }
};

class StripMarks : public PerCharacter {
 public:
  /// @param categories ICU's mask of those that go
  explicit StripMarks(uint32_t categories) : categories_(categories) {}
  void append(char32_t character, std::string& result) const override {
    if ((U_GET_GC_MASK(static_cast<UChar32>(character)) & categories_) == 0) append_character(result, character);
  }

 private:
  uint32_t categories_;
};

/// Control characters go, white space becomes spaces.
class Clean : public PerCharacter {
  void append(char32_t character, std::string& result) const override {
    constexpr char32_t kReplacement = 0xFFFD;
    const bool kept_control = character == '\t' || character == '\n' || character == '\r';
    const uint32_t category = U_GET_GC_MASK(static_cast<UChar32>(character));
    if (character == 0 || character == kReplacement) return;
    if (!kept_control && (category & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK | U_GC_CS_MASK))) return;
    append_character(result, character_kind(character) == CharacterKind::kSpace ? U' ' : character);
  }
};

/// Chinese characters stand alone, as words do.
class SpaceChinese : public PerCharacter {
  void append(char32_t character, std::string& result) const override {
    // BERT's list: the unified ideographs and their compatibility forms, without kana and Hangul.
    constexpr std::pair<char32_t, char32_t> kRanges[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                                                         {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    bool chinese = false;
    for (const auto& [first, last] : kRanges) chinese |= character >= first && character <= last;
    if (chinese) result += ' ';
    append_character(result, character);
    if (chinese) result += ' ';
  }
};

/// SentencePiece's compiled normaliser, by itself: at each place the longest beginning that the map has is replaced.
class CompiledByPlace : public Normalizer::Step {
 public:
  explicit CompiledByPlace(CharacterMap map) : map_(std::move(map)) {}
  std::string apply(std::string_view text) const override {
    std::string result;
    while (!text.empty()) {
      const std::optional<CharacterMap::Match> match = map_.longest(text);
      const size_t length = match ? match->length : first_character(text).length;
      result += match ? match->replacement : text.substr(0, length);
      text.remove_prefix(length);
    }
    return result;
  }

 private:
  CharacterMap map_;
};

/// The same as `tokenizers` has it: a grapheme of at most five bytes becomes what the shortest of its beginnings does, which often is the
/// grapheme whole; of others each character does.
class CompiledByGrapheme : public Normalizer::Step {
 public:
  explicit CompiledByGrapheme(CharacterMap map) : map_(std::move(map)) {
    UErrorCode status = U_ZERO_ERROR;
    breaks_.reset(icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), status));
    if (U_FAILURE(status)) fail("ICU has no rules for graphemes: {}", u_errorName(status));
  }

  std::string apply(std::string_view text) const override {
    std::string result;
    const std::unique_ptr<icu::BreakIterator> breaks(breaks_->clone());  // an iterator is of one thread
    in_parts(text, [&](std::string_view part) {
      UErrorCode status = U_ZERO_ERROR;
      UText utf8 = UTEXT_INITIALIZER;
      utext_openUTF8(&utf8, part.data(), static_cast<int64_t>(part.size()), &status);
      breaks->setText(&utf8, status);
      if (U_FAILURE(status)) fail("a text of {} bytes could not be cut into graphemes: {}", part.size(), u_errorName(status));
      int32_t start = breaks->first();
      for (int32_t end = breaks->next(); end != icu::BreakIterator::DONE; start = end, end = breaks->next())
        append(part.substr(start, end - start), result);
      utext_close(&utf8);
    });
    return result;
  }

 private:
  void append(std::string_view grapheme, std::string& result) const {
    constexpr size_t kShort = 6;
    if (grapheme.size() < kShort) {
      if (const std::optional<CharacterMap::Match> match = map_.shortest(grapheme)) {
        result += match->replacement;
        return;
      }
    }
    while (!grapheme.empty()) {
      const std::string_view character = grapheme.substr(0, first_character(grapheme).length);
      const std::optional<CharacterMap::Match> match = map_.shortest(character);
      result += match ? match->replacement : character;
      grapheme.remove_prefix(character.size());
    }
  }

  CharacterMap map_;
  std::unique_ptr<icu::BreakIterator> breaks_;
};

}  // namespace

Normalizer::Normalizer(const Json& normalizer, std::string_view where) {
  if (!normalizer.is_null()) add(normalizer, where, 0);
}

void Normalizer::add(const Json& normalizer, std::string_view where, int depth) {
  const auto type = json_member<std::string>(normalizer, "type", where);
  const auto option = [&](const char* key) { return json_member_or<bool>(normalizer, key, true, where); };
  if (type == "Sequence" && depth < 8) {
    for (const Json& part : json_member<std::vector<Json>>(normalizer, "normalizers", where)) add(part, where, depth + 1);
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    steps_.push_back(form_of(type));
  } else if (type == "Prepend") {
    steps_.push_back(std::make_shared<Prepend>(json_member<std::string>(normalizer, "prepend", where)));
  } else if (type == "Replace") {
    const Json pattern = json_member<Json>(normalizer, "pattern", where);
    const auto content = json_member<std::string>(normalizer, "content", where);
    const auto regex = json_member_or<std::string>(pattern, "Regex", "", where),
               text = json_member_or<std::string>(pattern, "String", "", where);
    grow(static_cast<double>(content.size()) / static_cast<double>(std::max<size_t>(text.size(), 1)), where);
    if (regex == " {2,}") {
      steps_.push_back(std::make_shared<ReplaceSpaces>(content));
    } else if (!regex.empty() || text.empty()) {
      fail("{}: Replace of {} is not supported: of strings it is, and of the expression \" {{2,}}\"", where, shown(pattern.dump()));
    } else {
      steps_.push_back(std::make_shared<Replace>(text, content));
    }
  } else if (type == "Precompiled") {
    CharacterMap map(from_base64(json_member<std::string>(normalizer, "precompiled_charsmap", where), where), where);
    grow(static_cast<double>(map.longest_replacement()), where);
    if (json_member_or<std::string>(normalizer, "match", "", where) == "longest") {
      steps_.push_back(std::make_shared<CompiledByPlace>(std::move(map)));
    } else {
      steps_.push_back(std::make_shared<CompiledByGrapheme>(std::move(map)));
    }
  } else if (type == "Lowercase") {
    steps_.push_back(std::make_shared<Lowercase>());
  } else if (type == "StripAccents") {
    steps_.push_back(std::make_shared<StripMarks>(U_GC_M_MASK));
  } else if (type == "Strip") {
    steps_.push_back(std::make_shared<Strip>(option("strip_left"), option("strip_right")));
  } else if (type == "BertNormalizer") {
    const bool lowercase = option("lowercase");
    if (option("clean_text")) steps_.push_back(std::make_shared<Clean>());
    if (option("handle_chinese_chars")) steps_.push_back(std::make_shared<SpaceChinese>());
    if (json_member_or<bool>(normalizer, "strip_accents", lowercase, where)) {
      steps_.push_back(form_of("NFD"));
      steps_.push_back(std::make_shared<StripMarks>(U_GC_MN_MASK));
    }
    if (lowercase) steps_.push_back(std::make_shared<Lowercase>());
  } else {
    fail(
        "{}: type \"{}\" is not supported; NFC, NFD, NFKC, NFKD, Prepend, Replace, Precompiled, Lowercase, StripAccents, Strip, "
        "BertNormalizer and Sequence are",
        where, shown(type));
  }
}

void Normalizer::grow(double times, std::string_view where) {
  constexpr double kMostGrowth = 1000;
  growth_ *= std::max(1.0, times);
  if (growth_ > kMostGrowth) fail("{}: its replacements would make texts over {} times as long", where, kMostGrowth);
}

std::string Normalizer::normalize(std::string_view text) const {
  std::string result(text);
  for (const auto& step : steps_) result = step->apply(result);
  return result;
}

std::string Normalizer::normalize_token(std::string_view content) const {
  std::string result(content);
  for (const auto& step : steps_)
    if (step->applies_to_tokens()) result = step->apply(result);
  return result;
}

}  // namespace sememe
