#include "sememe/features/described_text.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "sememe/data/byte_stream.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

using Words = std::vector<std::string>;

/// The words of tokens that are given by their bytes.
Words words_of(const Words& tokens) {
  std::string text;
  std::vector<size_t> offsets{0};
  for (const std::string& token : tokens) {
    text += token;
    offsets.push_back(text.size());
  }
  return words_of_tokens(text, offsets);
}

TEST(WordsOfTokens, PartsOfAWordAreTheWholeWord) {
  EXPECT_EQ(words_of({"The", " un", "believ", "able", " CAT"}), (Words{"the", "unbelievable", "unbelievable", "unbelievable", "cat"}));
}

TEST(WordsOfTokens, MarksAndSpacesHaveNamesOfTheirOwn) {
  EXPECT_EQ(words_of({"Oh", "...", "!", "\n", "  ", " no", "?"}), (Words{"oh", "...!", "...!", "⏎", "␣", "no", "?"}));
}

TEST(WordsOfTokens, LettersOfAllScriptsAreLetters) {
  EXPECT_EQ(words_of({"\xC3", "\x89", "tude"}), (Words{"étude", "étude", "étude"}));  // É in two tokens
  EXPECT_EQ(words_of({" Να", "ί", "."}), (Words{"ναί", "ναί", "."}));
}

TEST(WordsOfTokens, LongWordsAreCut) { EXPECT_EQ(words_of({std::string(100, 'a')})[0], std::string(40, 'a')); }

RC_GTEST_PROP(WordsOfTokens, TakesAnyBytes, ()) {
  const auto tokens = *rc::gen::container<Words>(rc::gen::nonEmpty(rc::gen::string<std::string>()));
  RC_ASSERT(words_of(tokens).size() == tokens.size());
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text) { return tokenizer.encode(text); }

TEST(DescribedText, CountsUnitsByHalf) {
  const Tokenizer tokenizer = testing::small_tokenizer();
  DescribedText text(tokenizer);
  text.add_context(encode(tokenizer, "a cat"));
  text.add_context(encode(tokenizer, "cat cat dog"));
  text.add_context(encode(tokenizer, "dog"));
  EXPECT_EQ(text.contexts(), 3);
  EXPECT_EQ(text.size(), text.half_size(0) + text.half_size(1));
  for (const TextUnit kind : {TextUnit::kToken, TextUnit::kWord})
    for (int64_t i = 0; i < text.size(); ++i)
      for (const int half : {0, 1}) {
        int64_t count = 0;
        for (int64_t j = 0; j < text.size(); ++j) count += text.half(j) == half && text.unit(kind, j) == text.unit(kind, i);
        EXPECT_EQ(text.occurrences(kind, text.unit(kind, i), half), count);
      }
  EXPECT_EQ(text.half(text.context_begin(1)), 1);
  EXPECT_EQ(text.context_end(2), text.size());
  EXPECT_EQ(text.spelling(TextUnit::kWord, text.unit(TextUnit::kWord, text.size() - 1)), "dog");
}

TEST(DescribedText, AWindowStaysInItsContextAndHoldsWholeCharacters) {
  const Tokenizer tokenizer = testing::small_tokenizer();
  DescribedText text(tokenizer);
  text.add_context(encode(tokenizer, "before"));
  text.add_context(encode(tokenizer, "x€y"));  // € is three bytes, and so three tokens
  text.add_context(encode(tokenizer, "after"));
  const int64_t begin = text.context_begin(1);
  ASSERT_EQ(text.context_end(1) - begin, 5);
  const TextWindow window = text.window(begin + 2, 100, 100);
  EXPECT_EQ(window.parts, (Words{"x", "€", "y"}));
  EXPECT_EQ(window.first_positions, (std::vector<int64_t>{begin, begin + 1, begin + 4}));
  EXPECT_EQ(window.end, begin + 5);
  // A window that begins within the character shows that something was cut, in valid UTF-8.
  for (const std::string& part : text.window(begin + 2, 0, 1).parts) {
    std::string repaired = part;
    EXPECT_EQ(repair_utf8(repaired), 0u);
  }
}

}  // namespace
}  // namespace sememe
