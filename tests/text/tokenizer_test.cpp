#include "sememe/text/tokenizer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <filesystem>
#include <numeric>
#include <thread>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/merges.h"
#include "sememe/text/splitting_rule.h"

namespace sememe {
namespace {

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> all;
  for_each_word(SplittingRule::kGpt2, text, [&](std::string_view word) { all.emplace_back(word); });
  return all;
}

using Words = std::vector<std::string>;

Tokenizer learned(std::string text, int64_t vocabulary) {
  bool given = false;
  return Tokenizer::train(
      [&]() -> std::optional<std::string> {
        if (given) return std::nullopt;
        given = true;
        return text;
      },
      vocabulary);
}

constexpr const char* kProse =
    "the cat sat on the mat and the dog sat on the cat; it's what they've done there, then and thereafter. "
    "\xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD0\xBF\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 the end";

Tokenizer small() {
  return learned(kProse, 290);
}

class TokenizerFiles : public testing::Test {
 protected:
  void SetUp() override {
    const auto* const test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() / ("sememe_tokenizer_" + std::string(test->name()));
    std::filesystem::create_directories(folder_);
    small().save(path());
    document_ = read_json(path());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path path() const { return folder_ / "tokenizer.json"; }
  Tokenizer reload() const {
    write_json(path(), document_);
    return Tokenizer::load(path());
  }
  /// The error that loading `document_` gives, which must name the file.
  std::string error() const {
    try {
      reload();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(path().string()), std::string::npos) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "loaded";
    return "";
  }
  void expect_error(std::string_view part) const {
    const std::string message = error();
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }

  std::filesystem::path folder_;
  Json document_;
};

TEST(Splitter, ContractionsAreLowerCaseOnly) {
  EXPECT_EQ(words("it's they'll I'd"), (Words{"it", "'s", " they", "'ll", " I", "'d"}));
  EXPECT_EQ(words("IT'S"), (Words{"IT", "'", "S"}));
  EXPECT_EQ(words("''s"), (Words{"''", "s"}));
  EXPECT_EQ(words("'start 've'l"), (Words{"'s", "tart", " '", "ve", "'", "l"}));
}

TEST(Splitter, OneSpaceGoesWithTheWordThatFollows) {
  EXPECT_EQ(words("a  b"), (Words{"a", " ", " b"}));
  EXPECT_EQ(words("a \n b  "), (Words{"a", " \n", " b", "  "}));
  EXPECT_EQ(words("a\n\nb"), (Words{"a", "\n", "\n", "b"}));
  EXPECT_EQ(words("\ta"), (Words{"\t", "a"}));
  EXPECT_EQ(words(" "), (Words{" "}));
}

TEST(Splitter, LettersNumbersAndSignsPart) {
  EXPECT_EQ(words("abc123?! x2"), (Words{"abc", "123", "?!", " x", "2"}));
  EXPECT_EQ(words("x\xC2\xB2\xE2\x85\xA7"), (Words{"x", "\xC2\xB2\xE2\x85\xA7"}));  // superscript 2, Roman 8: numbers
  EXPECT_EQ(words("e\xCC\x81x"), (Words{"e", "\xCC\x81", "x"}));                    // a combining mark is a sign
}

TEST(Splitter, UnicodeSpacesAreSpacesButDoNotJoin) {
  EXPECT_EQ(words("a\xC2\xA0"
                  "b"),
            (Words{"a", "\xC2\xA0", "b"}));
  EXPECT_EQ(words("a\xE3\x80\x80\xC2\x85 b"), (Words{"a", "\xE3\x80\x80\xC2\x85", " b"}));
  EXPECT_EQ(words("a\xE2\x80\x8B"
                  "b"),
            (Words{"a", "\xE2\x80\x8B", "b"}));  // zero width space is none
}

TEST(Splitter, InvalidBytesAreSigns) {
  EXPECT_EQ(words("a\xFF\xC3 b"), (Words{"a", "\xFF\xC3", " b"}));
  EXPECT_EQ(words("\xED\xA0\x80z"), (Words{"\xED\xA0\x80", "z"}));  // a surrogate
  EXPECT_EQ(words("\xE4\xB8"), (Words{"\xE4\xB8"}));                // cut short
  EXPECT_EQ(words("\xC0\x80"
                  "a"),
            (Words{"\xC0\x80", "a"}));  // overlong
}

RC_GTEST_PROP(Splitter, WordsTogetherAreTheText, (const std::string& text)) {
  const Words all = words(text);
  RC_ASSERT(std::accumulate(all.begin(), all.end(), std::string()) == text);
}

RC_GTEST_PROP(ByteLevel, TextStandsForItsBytes, (const std::string& bytes)) {
  RC_ASSERT(from_byte_level(to_byte_level(bytes)) == bytes);
}

TEST(ByteLevel, OtherCharactersStandForNothing) {
  EXPECT_EQ(to_byte_level(" a\n"),
            "\xC4\xA0"
            "a\xC4\x8A");
  EXPECT_FALSE(from_byte_level("a b"));
  EXPECT_FALSE(from_byte_level("\xE2\x82\xAC"));
  EXPECT_FALSE(from_byte_level("a\xC4"));
}

TEST(Merges, LongAndShortWordsMergeAlike) {
  Merges merges;
  merges.insert(1, 1, {0, 2});
  merges.insert(2, 2, {1, 3});
  merges.insert(3, 1, {2, 4});
  std::vector<int32_t> shorter(23, 1), longer(103, 1);
  merges.apply(shorter);
  merges.apply(longer);
  EXPECT_EQ(shorter, (std::vector<int32_t>{3, 3, 3, 3, 3, 2, 1}));
  EXPECT_EQ(longer.size(), 25u + 2u);
  EXPECT_TRUE(std::equal(longer.begin(), longer.begin() + 25, std::vector<int32_t>(25, 3).begin()));
}

TEST(Merges, PairsMayShareARank) {
  Merges merges;
  merges.insert(2, 3, {0, 5});
  merges.insert(1, 2, {1, 4});
  merges.insert(1, 5, {1, 6});
  std::vector<int32_t> longer;
  for (int i = 0; i < 10; ++i) longer.insert(longer.end(), {1, 2, 3});
  std::vector<int32_t> shorter(longer.begin(), longer.begin() + 6);
  merges.apply(shorter);
  merges.apply(longer);
  EXPECT_EQ(shorter, (std::vector<int32_t>{6, 6}));
  EXPECT_EQ(longer, std::vector<int32_t>(10, 6));
}

TEST(Tokenizer, LearnsTheMostFrequentPairFirst) {
  const Tokenizer tokenizer = learned("abab abab abab cd", 259);
  EXPECT_EQ(tokenizer.size(), 259);
  EXPECT_EQ(tokenizer.token(257), "ab");
  EXPECT_EQ(tokenizer.token(258), "abab");
  EXPECT_EQ(tokenizer.encode("abab").size(), 1u);
}

TEST(Tokenizer, EndOfTextIsZeroAndNotRecognisedInText) {
  const Tokenizer tokenizer = small();
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_EQ(tokenizer.special("<|endoftext|>"), 0);
  EXPECT_FALSE(tokenizer.special("the"));
  const std::vector<int32_t> ids = tokenizer.encode("<|endoftext|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 0);
  EXPECT_EQ(tokenizer.decode(ids), "<|endoftext|>");
}

TEST(Tokenizer, TooLittleTextOrTooFewTokensAreRefused) {
  EXPECT_THROW(learned("ab", 1000), Error);
  EXPECT_THROW(learned(kProse, 256), UsageError);
  EXPECT_EQ(learned("", 257).size(), 257);
}

TEST(Tokenizer, UnknownIdsAreRefused) {
  EXPECT_THROW(small().token(290), Error);
  EXPECT_THROW(small().decode(std::vector<int32_t>{-1}), Error);
}

RC_GTEST_PROP(Tokenizer, DecodeUndoesEncode, (const std::string& text)) {
  static const Tokenizer tokenizer = small();
  RC_ASSERT(tokenizer.decode(tokenizer.encode(text)) == text);
  RC_ASSERT(tokenizer.encode(text) == tokenizer.encode(text));  // the second time from the cache
}

TEST(Tokenizer, AMegabyteOfOneWordTakesUnderASecond) {
  const Tokenizer tokenizer = small();
  std::string word;
  while (word.size() < 1000000) word += "thereandthe";
  const auto start = std::chrono::steady_clock::now();
  const std::vector<int32_t> ids = tokenizer.encode(word);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(tokenizer.decode(ids), word);
#if !defined(__SANITIZE_ADDRESS__) && defined(NDEBUG)
  EXPECT_LT(seconds.count(), 1.0);
#endif
}

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = small();
  const std::vector<int32_t> expected = tokenizer.encode(kProse);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      for (int round = 0; round < 50; ++round) equal[i] += tokenizer.encode(kProse) == expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 50));
}

TEST_F(TokenizerFiles, LoadGivesBackWhatWasSaved) {
  const Tokenizer before = small(), after = Tokenizer::load(path()), from_folder = Tokenizer::load(folder_);
  EXPECT_EQ(after.size(), before.size());
  EXPECT_EQ(after.encode(kProse), before.encode(kProse));
  EXPECT_EQ(from_folder.encode(kProse), before.encode(kProse));
  EXPECT_EQ(after.end_of_text(), 0);
}

TEST_F(TokenizerFiles, MergesMayBePairs) {
  for (Json& merge : document_["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  EXPECT_EQ(reload().encode(kProse), small().encode(kProse));
}

TEST_F(TokenizerFiles, OldFilesAreReadTogether) {
  write_json(folder_ / "vocab.json", document_["model"]["vocab"]);
  std::string merges = "#version: 0.2\n";
  for (const Json& merge : document_["model"]["merges"]) merges += merge.get<std::string>() + "\n";
  write_file(folder_ / "merges.txt", merges);
  const Tokenizer tokenizer = Tokenizer::load(folder_ / "vocab.json");
  EXPECT_EQ(tokenizer.encode(kProse), small().encode(kProse));
  EXPECT_EQ(tokenizer.end_of_text(), 0);
}

TEST_F(TokenizerFiles, BertsVocabularyIsReadAlone) {
  write_file(folder_ / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\n##s\r\nThe\n");
  const auto ids = [&](std::string_view text) { return Tokenizer::load(folder_ / "vocab.txt").encode(text); };
  EXPECT_EQ(ids("The cats, the"), (std::vector<int32_t>{5, 6, 7, 1, 5}));
  const Tokenizer tokenizer = Tokenizer::load(folder_ / "vocab.txt");
  EXPECT_TRUE(tokenizer.adds_beginning_of_text());
  EXPECT_EQ(tokenizer.opening(), 2);
  EXPECT_EQ(tokenizer.closing(), 3);
  write_json(folder_ / "tokenizer_config.json", {{"do_lower_case", false}});
  EXPECT_EQ(ids("The cats"), (std::vector<int32_t>{8, 6, 7}));
  const auto refusal = [&](const std::string& vocabulary) -> std::string {
    write_file(folder_ / "vocab.txt", vocabulary);
    try {
      ids("a");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal("[PAD]\nthe\nthe\n").find("vocab.txt:3: \"the\" is there twice"), std::string::npos);
  EXPECT_NE(refusal("[PAD]\nthe\n").find("[UNK]"), std::string::npos);
}

TEST_F(TokenizerFiles, WhatAPostProcessorPutsBehindTextsIsTheClosing) {
  EXPECT_EQ(reload().closing(), std::nullopt);
  document_["post_processor"] = {{"type", "RobertaProcessing"}, {"cls", {"a", 1}}, {"sep", {"b", 2}}};
  EXPECT_EQ(reload().token(*reload().closing()), "b");
  document_["post_processor"] = {{"type", "TemplateProcessing"},
                                 {"single", {{{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, {{"SpecialToken", {{"id", "c"}, {"type_id", 0}}}}}}};
  EXPECT_EQ(reload().token(*reload().closing()), "c");
  EXPECT_FALSE(reload().adds_beginning_of_text());
  document_["post_processor"] = {{"type", "BertProcessing"}, {"cls", {"a", 1}}, {"sep", {"no such token", 2}}};
  expect_error("no such token");
}

TEST_F(TokenizerFiles, HowMuchOfATextAModelIsGivenIsNotTheTokenizers) {
  document_["truncation"] = {{"max_length", 5}, {"strategy", "LongestFirst"}, {"stride", 0}};
  document_["padding"] = {{"strategy", {{"Fixed", 128}}}, {"direction", "Right"}, {"pad_id", 0}};
  EXPECT_EQ(reload().encode(kProse), small().encode(kProse));
}

TEST_F(TokenizerFiles, AddedTokensMayLieBeyondTheVocabulary) {
  document_["added_tokens"].push_back({{"id", 295}, {"content", "<|im_end|>"}, {"special", true}});
  const Tokenizer tokenizer = reload();
  EXPECT_EQ(tokenizer.size(), 296);
  EXPECT_EQ(tokenizer.token(295), "<|im_end|>");
  EXPECT_THROW(tokenizer.token(292), Error);
}

TEST_F(TokenizerFiles, MissingPartsAreNamed) {
  for (const char* key : {"model", "pre_tokenizer", "decoder"}) {
    const Json whole = document_;
    document_.erase(key);
    expect_error(key);
    document_ = whole;
  }
  document_["model"].erase("merges");
  expect_error("merges");
}

TEST_F(TokenizerFiles, UnsupportedPartsAreNamed) {
  const Json whole = document_;
  const auto refuse = [&](const char* pointer, const Json& value, std::string_view part) {
    document_ = whole;
    document_[Json::json_pointer(pointer)] = value;
    expect_error(part);
  };
  refuse("/normalizer", {{"type", "Nmt"}}, "normalizer: type \"Nmt\"");
  refuse("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "a+"}}}, {"content", ""}}, "Regex");
  refuse("/model/type", "Unigram", "vocab");
  refuse("/model/type", "WordLevel", "WordLevel");
  refuse("/model/byte_fallback", true, "byte_fallback");
  refuse("/model/dropout", 0.1, "dropout");
  refuse("/model/end_of_word_suffix", "</w>", "</w>");
  refuse("/pre_tokenizer/type", "Whitespace", "Whitespace");
  refuse("/decoder/type", "WordPiece", "ByteLevel");
  refuse("/decoder/type", "CTC", "CTC");
  refuse("/post_processor/type", "Strange", "Strange");
}

TEST_F(TokenizerFiles, TemplatesDoNotMatter) {
  document_["post_processor"] = {{"type", "TemplateProcessing"}, {"single", Json::array()}};
  EXPECT_EQ(reload().encode(kProse), small().encode(kProse));
}

TEST_F(TokenizerFiles, HostileVocabulariesAreRefused) {
  const Json whole = document_;
  const auto refuse = [&](const char* pointer, const Json& value, std::string_view part) {
    document_ = whole;
    document_[Json::json_pointer(pointer)] = value;
    expect_error(part);
  };
  refuse("/model/vocab/new", 5, "has id 5, which another token has too");
  refuse("/model/vocab/new", -1, "has id -1");
  refuse("/model/vocab/new", int64_t{1} << 40, "ids must be from 0");
  refuse("/model/vocab/new", ~uint64_t{0}, "ids must be from 0");
  refuse("/model/vocab/new", 1.5, "not an integer");
  refuse("/model/vocab/new", "5", "not an integer");
  refuse("/model/vocab", Json::array(), "vocab");
  refuse("/model/merges", "a b", "merges");
  refuse("/model/merges/0", "a zzz", "\"zzz\"");
  refuse("/model/merges/0", "abc", "merge 0");
  refuse("/model/merges/0", 7, "merge 0");
  refuse("/model/merges/0", {"a"}, "merge 0");
  refuse("/model", "BPE", "model");
  refuse("/added_tokens", 3, "added_tokens");
  refuse("/added_tokens/0", {{"content", "x"}}, "id");
  refuse("/added_tokens/0", {{"content", "a"}, {"id", 0}}, "\"a\"");
  refuse("/pre_tokenizer", {{"type", 4}}, "type");
  refuse("/pre_tokenizer/use_regex", "yes", "use_regex");
  document_ = whole;
  document_["model"]["vocab"].erase("a");
  expect_error("");
  document_ = Json::array();
  expect_error("");
}

TEST_F(TokenizerFiles, AMissingByteIsNamed) {
  document_["model"]["vocab"].erase("!");
  expect_error("0x21");
}

TEST_F(TokenizerFiles, MissingFilesAreNamed) {
  EXPECT_THROW(Tokenizer::load(folder_ / "none.json"), Error);
  write_file(path(), "{\"model\": ");
  EXPECT_THROW(Tokenizer::load(path()), Error);
  write_file(path(), std::string("\xFF\xFE\x00", 3));
  EXPECT_THROW(Tokenizer::load(path()), Error);
}

}  // namespace
}  // namespace sememe
