#include "sememe/text/sentence_piece.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <limits>

#include "sememe/base/files.h"
#include "sememe/text/tokenizer.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}
std::string whole(int number, int64_t value) { return varint(number << 3) + varint(static_cast<uint64_t>(value)); }
std::string text(int number, const std::string& bytes) { return varint(number << 3 | 2) + varint(bytes.size()) + bytes; }
std::string real(int number, float value) {
  char bytes[4];
  std::memcpy(bytes, &value, 4);
  return varint(number << 3 | 5) + std::string(bytes, 4);
}
std::string piece(const std::string& name, float score, int type = 1) {
  return text(1, text(1, name) + real(2, score) + (type == 1 ? "" : whole(3, type)));
}

const std::string kFirst = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3);
const std::string kWords = piece("\xE2\x96\x81", -1) + piece("a", -2) + piece("b", -3) + piece("ab", -2.5f) + piece("\xE2\x96\x81" "ab", -2.75f);
const std::string kUnigram = text(2, whole(3, 1)), kMerges = text(2, whole(3, 2)), kAsItIs = text(3, whole(4, 0));

struct SentencePieceFile : ::testing::Test {
  SentencePieceFile() { fs::create_directories(folder); }
  ~SentencePieceFile() override { fs::remove_all(folder); }
  Tokenizer load(const std::string& bytes) {
    std::ofstream(folder / "tokenizer.model", std::ios::binary) << bytes;
    return Tokenizer::load(folder);
  }
  std::string error_of(const std::string& bytes) {
    const std::string message = error_from([&] { load(bytes); });
    EXPECT_TRUE(contains(message, {"tokenizer.model: "}));
    return message;
  }
  fs::path folder = fs::temp_directory_path() / ("sememe_sentence_piece_" + std::to_string(::getpid()));
};

TEST_F(SentencePieceFile, OfMergesTakesTheBestPairFirstAndBeginsTexts) {
  const Tokenizer tokenizer = load(kFirst + kWords + kMerges + kAsItIs);
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{7}));
  EXPECT_EQ(tokenizer.encode("aab"), (Ids{3, 4, 6}));
  EXPECT_EQ(tokenizer.encode("a c"), (Ids{3, 4, 3, 0}));
  EXPECT_TRUE(tokenizer.adds_beginning_of_text());
  EXPECT_EQ(tokenizer.opening(), 1);
  EXPECT_EQ(tokenizer.ends(), (Ids{2}));
}

TEST_F(SentencePieceFile, OfAUnigramTakesTheBestSumAndTrimsSpacesUnlessToldOtherwise) {
  const Tokenizer tokenizer = load(kFirst + kWords + kUnigram);
  EXPECT_EQ(tokenizer.encode("  ab   ab "), (Ids{7, 7}));
  EXPECT_FALSE(tokenizer.adds_beginning_of_text());
  const Tokenizer as_it_is = load(kFirst + kWords + kUnigram + text(3, whole(3, 0) + whole(4, 0)));
  EXPECT_EQ(as_it_is.encode("ab  ab"), (Ids{6, 3, 7}));
}

TEST_F(SentencePieceFile, TokensAddedBesideItHaveTheirIds) {
  write_json(folder / "added_tokens.json", Json{{"<|tool|>", 9}, {"<s>", 1}});
  const Tokenizer tokenizer = load(kFirst + kWords + kMerges + kAsItIs);
  EXPECT_EQ(tokenizer.size(), 10);
  EXPECT_EQ(tokenizer.encode("<|tool|>", Tokenizer::Specials::kAsTokens), (Ids{9}));
  write_json(folder / "added_tokens.json", Json{{"<|tool|>", 4}});
  EXPECT_TRUE(contains(error_from([&] { load(kFirst + kWords + kMerges); }), {"added_tokens.json", "<|tool|>", "4", "\"a\""}));
  write_json(folder / "added_tokens.json", Json{{"<|tool|>", int64_t{1} << 40}});
  EXPECT_TRUE(contains(error_from([&] { load(kFirst + kWords + kMerges); }), {"added_tokens.json", "<|tool|>"}));
}

TEST_F(SentencePieceFile, SavedAsJsonItIsTheSame) {
  const Tokenizer before = load(kFirst + kWords + kMerges + kAsItIs);
  before.save(folder / "tokenizer.json");
  before.save_settings(folder);
  const Tokenizer after = Tokenizer::load(folder);
  for (const char* const words : {"abba ab", "", "  b", "c ab"}) EXPECT_EQ(after.encode(words), before.encode(words)) << words;
  EXPECT_EQ(after.opening(), 1);
  EXPECT_EQ(after.end_of_text(), 2);
}

TEST_F(SentencePieceFile, WhatCannotBeReadIsSaid) {
  const std::string good = kFirst + kWords + kMerges;
  EXPECT_TRUE(contains(error_of(""), {"no token"}));
  EXPECT_TRUE(contains(error_of("<html>"), {"no model of SentencePiece"}));
  EXPECT_TRUE(contains(error_of(good.substr(0, good.size() - 1)), {"copied whole"}));
  EXPECT_TRUE(contains(error_of(kFirst + piece("x", std::numeric_limits<float>::quiet_NaN()) + kMerges), {"score of token 3"}));
  EXPECT_TRUE(contains(error_of(kFirst + piece("x", 0, 7) + kMerges), {"type of token 3 is 7"}));
  EXPECT_TRUE(contains(error_of(kFirst + kWords + text(2, whole(3, 4))), {"model_type is 4"}));
  EXPECT_TRUE(contains(error_of(kFirst + kWords + text(2, whole(3, 2) + whole(41, 99))), {"bos_id is 99"}));
  EXPECT_TRUE(contains(error_of(good + text(3, whole(5, 0))), {"escape_whitespaces"}));
  EXPECT_TRUE(contains(error_of(good + text(3, text(2, "abc"))), {"map of characters", "3 bytes"}));
  EXPECT_TRUE(contains(error_of(kFirst + piece(std::string(2000, 'x'), 0) + kMerges), {"token 3 is 2000 bytes long"}));
}

TEST_F(SentencePieceFile, WithoutABeginningNoneIsAdded) {
  const Tokenizer tokenizer = load(kFirst + kWords + text(2, whole(3, 2) + whole(41, -1)) + kAsItIs);
  EXPECT_FALSE(tokenizer.adds_beginning_of_text());
}

}  // namespace
}  // namespace sememe
