#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/formats/gguf.h"
#include "sememe/text/added_tokens.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/character_pairs.h"
#include "sememe/text/cutter.h"
#include "sememe/text/normalizer.h"
#include "sememe/text/spelling.h"
#include "sememe/text/splitting_rule.h"
#include "sememe/text/tokenizer.h"
#include "sememe/text/trie.h"

namespace sememe {
namespace {

using Words = std::vector<std::string>;
using Ids = std::vector<int32_t>;

const std::string kSpace = "\xE2\x96\x81";

Words words(SplittingRule rule, std::string_view text) {
  Words all;
  for_each_word(rule, text, [&](std::string_view word) { all.emplace_back(word); });
  return all;
}

TEST(SplittingRule, Cl100kTakesContractionsOfAnyCaseAndThreeDigits) {
  const auto cut = [](std::string_view text) { return words(SplittingRule::kCl100k, text); };
  EXPECT_EQ(cut("IT'S it's"), (Words{"IT", "'S", " it", "'s"}));
  EXPECT_EQ(cut("12345 6"), (Words{"123", "45", " ", "6"}));
  EXPECT_EQ(cut("(word) $5"), (Words{"(word", ")", " $", "5"}));
  EXPECT_EQ(cut("a  b\n\n  c"), (Words{"a", " ", " b", "\n\n", " ", " c"}));
  EXPECT_EQ(cut("!!\r\n\nx"), (Words{"!!\r\n\n", "x"}));
  EXPECT_EQ(cut("\tx \t"), (Words{"\tx", " \t"}));
}

TEST(SplittingRule, Qwen2CutsEveryDigit) {
  EXPECT_EQ(words(SplittingRule::kQwen2, "a123 4"), (Words{"a", "1", "2", "3", " ", "4"}));
}

TEST(SplittingRule, O200kPartsWordsWhereCaseRises) {
  const auto cut = [](std::string_view text) { return words(SplittingRule::kO200k, text); };
  EXPECT_EQ(cut("camelCase HTTPServer"), (Words{"camel", "Case", " HTTPServer"}));
  EXPECT_EQ(cut("ABCdef aBC"), (Words{"ABCdef", " a", "BC"}));
  EXPECT_EQ(cut("A\xE4\xB8\xAD"
                "B"),
            (Words{"A\xE4\xB8\xAD", "B"}));  // a letter without case ends the word before the capital
  EXPECT_EQ(cut("They'LL WE'"), (Words{"They'LL", " WE", "'"}));
  EXPECT_EQ(cut("a//\n/b"), (Words{"a", "//\n/", "b"}));
}

TEST(SplittingRule, TekkenHasNoContractions) {
  EXPECT_EQ(words(SplittingRule::kTekken, "it's 12"), (Words{"it", "'s", " ", "1", "2"}));
  EXPECT_EQ(words(SplittingRule::kTekken, "they'LL"), (Words{"they", "'LL"}));
}

TEST(SplittingRule, BertDropsSpacesAndPartsPunctuation) {
  EXPECT_EQ(words(SplittingRule::kBert, "  don't\tstop \xE2\x80\x94"), (Words{"don", "'", "t", "stop", "\xE2\x80\x94"}));
}

TEST(SplittingRule, PatternsNameTheirRules) {
  for (const SplittingRule rule :
       {SplittingRule::kGpt2, SplittingRule::kCl100k, SplittingRule::kQwen2, SplittingRule::kO200k, SplittingRule::kTekken})
    EXPECT_EQ(rule_of_pattern(*pattern_of_rule(rule)), rule);
  EXPECT_FALSE(rule_of_pattern(R"(\p{L}+)"));
  EXPECT_FALSE(pattern_of_rule(SplittingRule::kBert));
}

RC_GTEST_PROP(SplittingRule, WordsOfEachRuleAreTheText, (const std::string& text)) {
  for (const SplittingRule rule :
       {SplittingRule::kWhole, SplittingRule::kCl100k, SplittingRule::kQwen2, SplittingRule::kO200k, SplittingRule::kTekken,
        SplittingRule::kDigitRuns, SplittingRule::kEachDigit, SplittingRule::kMetaspaces}) {
    const Words all = words(rule, text);
    RC_ASSERT(std::accumulate(all.begin(), all.end(), std::string()) == text);
  }
}

TEST(Trie, FindsAllPrefixesShortestFirst) {
  Trie trie;
  trie.insert("ab", 1);
  trie.insert("abcd", 2);
  trie.insert("ab", 3);
  trie.insert("", 4);
  std::vector<size_t> lengths;
  trie.for_each_prefix("abcde", [&](const Trie::Match& match) { lengths.push_back(match.length); });
  EXPECT_EQ(lengths, (std::vector<size_t>{2, 4}));
  EXPECT_EQ(trie.longest_prefix("abc").id, 1);
  EXPECT_EQ(trie.longest_prefix("abcd").id, 2);
  EXPECT_EQ(trie.longest_prefix("b").id, -1);
  EXPECT_EQ(trie.longest_prefix("").id, -1);
}

TEST(AddedTokens, TheLeftmostLongestIsCutOut) {
  const std::vector<AddedToken> tokens = {
      {.content = "<a>", .id = 7}, {.content = "<a><b>", .id = 8}, {.content = "<l>", .id = 9, .left_strip = true}};
  Words pieces;
  AddedTokens(tokens).cut("x<a><b><a>y  <l>",
                          [&](std::string_view piece, int32_t id) { pieces.push_back(std::to_string(id) + ":" + std::string(piece)); });
  EXPECT_EQ(pieces, (Words{"-1:x", "8:<a><b>", "7:<a>", "-1:y", "9:  <l>"}));
}

TEST(Normalizer, StepsFollowOneAnother) {
  const Json steps = {{{"type", "NFC"}},
                      {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}},
                      {{"type", "Prepend"}, {"prepend", kSpace}},
                      {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}}};
  const Normalizer normalizer({{"type", "Sequence"}, {"normalizers", steps}}, "here");
  EXPECT_EQ(normalizer.normalize("e\xCC\x81   b"), kSpace + "\xC3\xA9" + kSpace + "b");
  EXPECT_EQ(normalizer.normalize_token(" b"), kSpace + "b");
  EXPECT_EQ(normalizer.normalize(""), "");
}

TEST(Normalizer, BytesThatAreNoTextStay) {
  const Normalizer normalizer(Json{{"type", "NFC"}}, "here");
  EXPECT_EQ(normalizer.normalize("e\xCC\x81\xFF\xC3"), "\xC3\xA9\xFF\xC3");
}

TEST(Normalizer, ReplacementsThatExplodeAreRefused) {
  Json steps = Json::array();
  for (int i = 0; i < 40; ++i) steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  EXPECT_THROW(Normalizer(Json{{"type", "Sequence"}, {"normalizers", steps}}, "here"), Error);
}

TEST(Normalizer, BertCleansLowersAndPartsChinese) {
  const Json bert = {
      {"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", true}, {"strip_accents", nullptr}, {"lowercase", true}};
  const Normalizer normalizer(bert, "here");
  EXPECT_EQ(normalizer.normalize("\xC3\x89t\xC3\xA9\tA\x01\xE4\xB8\xAD"), "ete a \xE4\xB8\xAD ");
}

TEST(Cutter, UnknownExpressionsAreShown) {
  const Json split = {{"type", "Split"}, {"pattern", {{"Regex", "[a-z]+|x"}}}, {"behavior", "Isolated"}, {"invert", false}};
  try {
    Cutter(split, true, "here");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("[a-z]+|x"), std::string::npos) << error.what();
  }
  EXPECT_THROW(Cutter(Json{{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}}, true, "here"), Error);
  EXPECT_NO_THROW(Cutter(Json{{"type", "Split"}, {"pattern", {{"String", " "}}}, {"behavior", "MergedWithPrevious"}}, false, "here"));
}

TEST(Spelling, NamesOfBytesAreBytes) {
  EXPECT_EQ(byte_of_name("<0x0A>"), 10);
  EXPECT_EQ(byte_of_name("<0xff>"), -1);
  EXPECT_EQ(byte_of_name("<0xFFF>"), -1);
}

TEST(MergesOfScores, BetterScoresMergeFirstAndEveryCutIsOne) {
  const auto token = [](const char* name, double score) {
    return TokenizerFile::Token{.name = name, .type = TokenType::kNormal, .score = score};
  };
  const std::vector<TokenizerFile::Merge> merges =
      merges_of_scores({token("a", -9), token("b", -9), token("ab", -2), token("ba", -1), token("aba", -3), token("c", -1)});
  Words shown;
  for (const auto& [left, right, merged, rank] : merges)
    shown.push_back(std::to_string(left) + "+" + std::to_string(right) + "=" + std::to_string(merged) + "@" + std::to_string(rank));
  EXPECT_EQ(shown, (Words{"1+0=3@0", "0+1=2@1", "0+3=4@2", "2+0=4@2"}));
}

TEST(CharacterPairs, TextIsPartedWhereNoTokenCrosses) {
  TokenizerFile file;
  for (const std::string& name : {std::string("a"), std::string("b"), kSpace, "a" + kSpace + "b"})
    file.tokens.push_back({.name = name, .type = TokenType::kNormal});
  const CharacterPairs pairs(file);
  EXPECT_EQ(pairs.independent_prefix("bb" + kSpace + "b"), 2u);
  EXPECT_EQ(pairs.independent_prefix("ba" + kSpace + "bb" + kSpace), 7u);
  EXPECT_EQ(pairs.independent_prefix(kSpace + "b"), 4u);
  file.tokens.erase(file.tokens.begin() + 2);
  EXPECT_EQ(CharacterPairs(file).independent_prefix("bb" + kSpace + "b"), 6u);  // U+2581 is unknown as is what may stand before it
}

/// A GGUF file of metadata alone, built key by key.
class GgufWriter {
 public:
  void text(const std::string& key, const std::string& value) { begin(key, 8), string(value); }
  void flag(const std::string& key, bool value) { begin(key, 7), bytes_ += static_cast<char>(value); }
  void number(const std::string& key, uint32_t value) { begin(key, 4), put(value); }
  void texts(const std::string& key, const Words& values) {
    begin(key, 9), put(uint32_t{8}), put(uint64_t{values.size()});
    for (const std::string& value : values) string(value);
  }
  void types(const std::vector<int32_t>& values) {
    begin("tokenizer.ggml.token_type", 9), put(uint32_t{5}), put(uint64_t{values.size()});
    for (const int32_t value : values) put(value);
  }
  void scores(const std::vector<float>& values) {
    begin("tokenizer.ggml.scores", 9), put(uint32_t{6}), put(uint64_t{values.size()});
    for (const float value : values) put(value);
  }
  Tokenizer open() const {
    const auto* const test = testing::UnitTest::GetInstance()->current_test_info();
    const auto path = std::filesystem::temp_directory_path() / ("sememe_" + std::string(test->name()) + ".gguf");
    std::string file = "GGUF";
    const auto append = [&](auto value) { file.append(reinterpret_cast<const char*>(&value), sizeof value); };
    append(uint32_t{3}), append(uint64_t{0}), append(count_);
    write_file(path, file + bytes_ + std::string(64, '\0'));
    try {
      Tokenizer tokenizer = Tokenizer::of_gguf(GgufFile(path));
      std::filesystem::remove(path);
      return tokenizer;
    } catch (...) {
      std::filesystem::remove(path);
      throw;
    }
  }
  std::string error() const {
    try {
      open();
    } catch (const Error& error) {
      return error.what();
    }
    return "opened";
  }

 private:
  template <class T>
  void put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(const std::string& value) { put(uint64_t{value.size()}), bytes_ += value; }
  void begin(const std::string& key, uint32_t type) { string(key), put(type), ++count_; }

  std::string bytes_;
  uint64_t count_ = 0;
};

/// unk, s, /s, a run of two newlines, all bytes, then words by score.
GgufWriter llama(bool prefix) {
  Words tokens = {"<unk>", "<s>", "</s>", "\n\n"};
  std::vector<int32_t> types = {2, 3, 3, 4};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("<0x{:02X}>", byte)), types.push_back(6);
  for (const char* word : {"a", "b", "ab", "ba"}) tokens.emplace_back(word), types.push_back(1);
  tokens.push_back(kSpace), types.push_back(1);
  tokens.push_back(kSpace + "a"), types.push_back(1);
  std::vector<float> scores(tokens.size(), 0);
  for (size_t i = 0; i < 6; ++i) scores[260 + i] = -static_cast<float>(i);
  GgufWriter writer;
  writer.text("tokenizer.ggml.model", "llama");
  writer.texts("tokenizer.ggml.tokens", tokens);
  writer.types(types);
  writer.scores(scores);
  writer.flag("tokenizer.ggml.add_space_prefix", prefix);
  writer.number("tokenizer.ggml.bos_token_id", 1);
  writer.number("tokenizer.ggml.eos_token_id", 2);
  return writer;
}

constexpr int32_t kA = 260, kB = 261, kAb = 262, kUnder = 264, kUnderA = 265, kByte = 4, kNewlines = 3;

TEST(GgufTokenizer, SentencePieceMergesTheBestScoreFirst) {
  const Tokenizer tokenizer = llama(false).open();
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{kAb}));
  EXPECT_EQ(tokenizer.encode("aba"), (Ids{kAb, kA}));  // ab before ba
  EXPECT_EQ(tokenizer.encode("b a"), (Ids{kB, kUnderA}));
  EXPECT_EQ(tokenizer.encode(" ab"), (Ids{kUnder, kAb}));  // ab before _a
}

TEST(GgufTokenizer, WhatIsNoTokenBecomesItsBytes) {
  const Tokenizer tokenizer = llama(false).open();
  EXPECT_EQ(tokenizer.encode("\xC3\xA9"), (Ids{kByte + 0xC3, kByte + 0xA9}));
  EXPECT_EQ(tokenizer.encode("\xFF"), (Ids{kByte + 0xFF}));
  EXPECT_EQ(tokenizer.token(kByte + 0xC3), "\xC3");
  EXPECT_EQ(tokenizer.token(kUnderA), " a");
}

TEST(GgufTokenizer, UserDefinedTokensGoBeforeMerges) {
  EXPECT_EQ(llama(false).open().encode("a\n\n\nb"), (Ids{kA, kNewlines, kByte + '\n', kB}));
  EXPECT_EQ(llama(true).open().encode("\n\na"), (Ids{kUnder, kNewlines, kA}));
}

TEST(GgufTokenizer, ThePrefixSpaceIsTakenBack) {
  const Tokenizer tokenizer = llama(true).open();
  EXPECT_EQ(tokenizer.encode("b"), (Ids{kUnder, kB}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("b a")), "b a");
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(" b")), " b");
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(GgufTokenizer, SpecialTokensAreTextUnlessAskedFor) {
  const Tokenizer tokenizer = llama(false).open();
  const Ids as_text = tokenizer.encode("<s>a</s>");
  EXPECT_EQ(std::count(as_text.begin(), as_text.end(), 1), 0);
  EXPECT_EQ(tokenizer.encode("<s>a</s>", Tokenizer::Specials::kAsTokens), (Ids{1, kA, 2}));
}

TEST(GgufTokenizer, BeginningAndEndsAreTheFiles) {
  const Tokenizer tokenizer = llama(false).open();
  EXPECT_EQ(tokenizer.beginning_of_text(), 1);
  EXPECT_TRUE(tokenizer.adds_beginning_of_text());
  EXPECT_EQ(tokenizer.end_of_text(), 2);
  EXPECT_EQ(tokenizer.ends(), (std::vector<int32_t>{2}));
  GgufWriter without = llama(false);
  without.flag("tokenizer.ggml.add_bos_token", false);
  EXPECT_FALSE(without.open().adds_beginning_of_text());
}

RC_GTEST_PROP(GgufTokenizer, SentencePieceGivesAllBytesBack, (const std::string& text)) {
  static const Tokenizer plain = llama(false).open(), prefixed = llama(true).open();
  RC_PRE(text.find(kSpace) == std::string::npos);
  RC_ASSERT(plain.decode(plain.encode(text)) == text);
  RC_ASSERT(prefixed.decode(prefixed.encode(text)) == text);
}

TEST(GgufTokenizer, SavedItIsTheSame) {
  const auto path = std::filesystem::temp_directory_path() / "sememe_saved_sentence_piece.json";
  const Tokenizer before = llama(true).open();
  before.save(path);
  const Tokenizer after = Tokenizer::load(path);
  std::filesystem::remove(path);
  for (const char* text : {"abba a\n\nb \xC3\xA9", "", " ", "\n\n"}) EXPECT_EQ(after.encode(text), before.encode(text)) << text;
  EXPECT_EQ(after.size(), before.size());
  EXPECT_EQ(after.beginning_of_text(), 1);
  EXPECT_TRUE(after.adds_beginning_of_text());
}

TEST(GgufTokenizer, ALongRunWithoutSpacesTakesUnderASecond) {
  const Tokenizer tokenizer = llama(false).open();
  std::string text;
  while (text.size() < 1000000) text += "abbaab";
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = tokenizer.encode(text);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(tokenizer.decode(ids), text);
#if !defined(__SANITIZE_ADDRESS__) && defined(NDEBUG)
  EXPECT_LT(seconds.count(), 1.0);
#endif
}

GgufWriter byte_level(const std::string& pre) {
  Words tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
  tokens.insert(tokens.end(), {"12", "123", "<|im_end|>", "<|endoftext|>", "45"});
  std::vector<int32_t> types(258, 1);
  types.insert(types.end(), {3, 3, 1});
  GgufWriter writer;
  writer.text("tokenizer.ggml.model", "gpt2");
  writer.text("tokenizer.ggml.pre", pre);
  writer.texts("tokenizer.ggml.tokens", tokens);
  writer.types(types);
  writer.texts("tokenizer.ggml.merges", {"1 2", "12 3"});
  writer.number("tokenizer.ggml.eos_token_id", 258);
  return writer;
}

TEST(GgufTokenizer, ThePreNamesTheSplittingRule) {
  EXPECT_EQ(byte_level("gpt-2").open().encode("1234"), (Ids{257, '4'}));
  EXPECT_EQ(byte_level("gpt-2").open().encode("45"), (Ids{'4', '5'}));
  EXPECT_EQ(byte_level("llama-bpe").open().encode("12312"), (Ids{257, 256}));
  EXPECT_EQ(byte_level("llama-bpe").open().encode("45"), (Ids{260}));  // a word that is a token stays whole
  EXPECT_EQ(byte_level("qwen2").open().encode("123"), (Ids{'1', '2', '3'}));
  EXPECT_EQ(byte_level("smollm").open().encode("123"), (Ids{'1', '2', '3'}));
  EXPECT_EQ(byte_level("qwen2").open().encode("e\xCC\x81"), byte_level("qwen2").open().encode("\xC3\xA9"));
  EXPECT_NE(byte_level("falcon").error().find("\"falcon\""), std::string::npos);
}

TEST(GgufTokenizer, WhatEndsATurnDoesNotSeparateDocuments) {
  const Tokenizer tokenizer = byte_level("qwen2").open();
  EXPECT_EQ(tokenizer.end_of_text(), 259);
  EXPECT_EQ(tokenizer.ends(), (std::vector<int32_t>{258, 259}));
}

TEST(GgufTokenizer, HostileFilesAreRefusedByName) {
  GgufWriter writer = llama(false);
  writer.number("tokenizer.ggml.eot_token_id", 5000);
  EXPECT_NE(writer.error().find("eot_token_id is 5000"), std::string::npos) << writer.error();
  const auto small = [](const char* model, const Words& tokens, const std::vector<int32_t>& types, const std::vector<float>& scores) {
    GgufWriter writer;
    writer.text("tokenizer.ggml.model", model);
    writer.texts("tokenizer.ggml.tokens", tokens);
    writer.types(types);
    writer.scores(scores);
    return writer.error();
  };
  EXPECT_NE(small("rwkv", {"a"}, {1}, {0}).find("\"rwkv\""), std::string::npos);
  EXPECT_NE(small("llama", {}, {}, {}).find("0 tokens"), std::string::npos);
  EXPECT_NE(small("llama", {"a"}, {1, 1}, {0}).find("token_type"), std::string::npos);
  EXPECT_NE(small("llama", {"a"}, {9}, {0}).find("token_type of token 0 is 9"), std::string::npos);
  EXPECT_NE(small("llama", {"a"}, {1}, {0, 0}).find("scores"), std::string::npos);
  EXPECT_NE(small("llama", {"a"}, {1}, {NAN}).find("scores of token 0"), std::string::npos);
  EXPECT_NE(small("llama", {std::string(5000, 'a')}, {1}, {0}).find("5000 bytes"), std::string::npos);
  GgufWriter merges = byte_level("gpt-2");
  EXPECT_EQ(merges.error(), "opened");
}

TEST(GgufTokenizer, UnigramTakesTheBestSum) {
  GgufWriter writer;
  writer.text("tokenizer.ggml.model", "t5");
  writer.texts("tokenizer.ggml.tokens", {"<unk>", "</s>", "a", "b", "ab", kSpace, "aba", "<u>"});
  writer.types({2, 3, 1, 1, 1, 1, 1, 4});
  writer.scores({0, 0, -2, -2, -3, -1, -6, 0});
  writer.flag("tokenizer.ggml.add_space_prefix", false);
  const Tokenizer tokenizer = writer.open();
  EXPECT_EQ(tokenizer.encode("aba"), (Ids{4, 2}));
  EXPECT_EQ(tokenizer.encode("a b"), (Ids{2, 5, 3}));
  EXPECT_EQ(tokenizer.encode("axyb"), (Ids{2, 0, 3}));
  EXPECT_EQ(tokenizer.encode("a<u>"), (Ids{2, 7}));
  EXPECT_FALSE(tokenizer.beginning_of_text());
}

TEST(GgufTokenizer, WordPieceTakesTheLongestOrNothing) {
  GgufWriter writer;
  writer.text("tokenizer.ggml.model", "bert");
  writer.texts("tokenizer.ggml.tokens", {"[UNK]", "[CLS]", kSpace + "un", kSpace + "unab", "able", "le", kSpace + "!"});
  writer.types({3, 3, 1, 1, 1, 1, 1});
  writer.number("tokenizer.ggml.unknown_token_id", 0);
  writer.number("tokenizer.ggml.cls_token_id", 1);
  const Tokenizer tokenizer = writer.open();
  EXPECT_EQ(tokenizer.encode("Unable!"), (Ids{3, 5, 6}));
  EXPECT_EQ(tokenizer.encode("unx un"), (Ids{0, 2}));
  std::string many = "un";
  for (int i = 0; i < 40; ++i) many += "le";
  EXPECT_EQ(tokenizer.encode(many).size(), 41u);
  EXPECT_EQ(tokenizer.encode(many + many.substr(2)), (Ids{0}));  // over a hundred characters
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("unable unable!")), "unable unable!");
  EXPECT_EQ(tokenizer.beginning_of_text(), 1);
  EXPECT_TRUE(tokenizer.adds_beginning_of_text());
}

class Settings : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("sememe_settings_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::create_directories(folder_);
    llama(false).open().save(folder_ / "tokenizer.json");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(Settings, TheFolderSaysHowTextsBeginAndEnd) {
  EXPECT_TRUE(Tokenizer::load(folder_).adds_beginning_of_text());
  write_json(folder_ / "tokenizer_config.json", {{"add_bos_token", false}});
  EXPECT_FALSE(Tokenizer::load(folder_).adds_beginning_of_text());
  write_json(folder_ / "tokenizer_config.json",
             {{"bos_token", {{"content", "<s>"}}}, {"eos_token", "</s>"}, {"add_bos_token", true}, {"chat_template", "{{ x }}"}});
  write_json(folder_ / "generation_config.json", {{"eos_token_id", {7, 2}}});
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer.beginning_of_text(), 1);
  EXPECT_TRUE(tokenizer.adds_beginning_of_text());
  EXPECT_EQ(tokenizer.end_of_text(), 2);
  EXPECT_EQ(tokenizer.ends(), (std::vector<int32_t>{2, 7}));
  EXPECT_EQ(tokenizer.chat_template(), "{{ x }}");
}

TEST_F(Settings, FaultsAreNamed) {
  const auto error = [&](const char* name, const Json& settings) -> std::string {
    write_json(folder_ / name, settings);
    try {
      Tokenizer::load(folder_);
    } catch (const Error& error) {
      std::filesystem::remove(folder_ / name);
      return error.what();
    }
    return "loaded";
  };
  EXPECT_NE(error("config.json", {{"eos_token_id", 100000}}).find("eos_token_id holds 100000"), std::string::npos);
  EXPECT_NE(error("generation_config.json", {{"eos_token_id", {1, "x"}}}).find("generation_config.json"), std::string::npos);
  EXPECT_NE(error("tokenizer_config.json", {{"add_bos_token", "yes"}}).find("add_bos_token"), std::string::npos);
  EXPECT_NE(error("tokenizer_config.json", Json::array()).find("no object"), std::string::npos);
}

}  // namespace
}  // namespace sememe
