#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdio>
#include <limits>

#include "sememe/text/tokenizer.h"
#include "tests/formats/error_text.h"
#include "tests/formats/llama2c_bytes.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

using Ids = std::vector<int32_t>;
using Tokens = std::vector<std::pair<std::string, float>>;

Tokenizer load(const std::string& bytes) {
  const ScratchPath scratch("tokenizer.bin");
  put_file(scratch.path(), bytes);
  return Tokenizer::load(scratch.path());
}

std::string error_of(const std::string& bytes) {
  const std::string message = error_from([&] { load(bytes); });
  if (message != "no error") EXPECT_TRUE(contains(message, {"tokenizer.bin"}));
  return message;
}

constexpr int32_t kByte = 3, kSpaceA = 259, kAb = 260, kSpaceAb = 261, kA = 263, kB = 264, kSpace = 265;

TEST(Llama2cTokenizer, MergesTheBestScoreFirstBehindASpaceBeforeTheText) {
  const Tokenizer tokenizer = load(llama2c_tokenizer_bytes(llama2c_tokens()));
  EXPECT_EQ(tokenizer.size(), 266);
  EXPECT_EQ(tokenizer.encode("b"), (Ids{kSpace, kB}));
  EXPECT_EQ(tokenizer.encode("aab"), (Ids{kSpaceA, kAb}));  // " a" before "ab"
  EXPECT_EQ(tokenizer.encode("ab"), (Ids{kSpaceAb}));
  EXPECT_EQ(tokenizer.encode("bab"), (Ids{kSpace, kB, kAb}));
  EXPECT_EQ(tokenizer.encode("\n"), (Ids{kSpace, kByte + '\n'}));
  EXPECT_EQ(tokenizer.token(kSpaceAb), " ab");
  EXPECT_EQ(tokenizer.token(kA), "a");
}

TEST(Llama2cTokenizer, TextsBeginWithTheTokenThatAlsoEndsThem) {
  const Tokenizer tokenizer = load(llama2c_tokenizer_bytes(llama2c_tokens()));
  EXPECT_TRUE(tokenizer.adds_beginning_of_text());
  EXPECT_EQ(tokenizer.opening(), 1);
  EXPECT_EQ(tokenizer.ends(), (Ids{1, 2}));
  EXPECT_EQ(tokenizer.encode("<s>", Tokenizer::Specials::kAsTokens), (Ids{1}));
}

TEST(Llama2cTokenizer, SavedInAFolderItIsTheSame) {
  const Tokenizer before = load(llama2c_tokenizer_bytes(llama2c_tokens()));
  const ScratchPath scratch("tokenizer.json");
  before.save(scratch.path());
  before.save_settings(scratch.path().parent_path());
  const Tokenizer after = Tokenizer::load(scratch.path().parent_path());
  for (const char* text : {"abba ab", "", "  b\n", "caf\xC3\xA9"}) EXPECT_EQ(after.encode(text), before.encode(text)) << text;
  EXPECT_EQ(after.opening(), 1);
  EXPECT_EQ(after.end_of_text(), 2);
  EXPECT_EQ(after.beginning_of_text(), 1);
}

RC_GTEST_PROP(Llama2cTokenizer, GivesAllBytesBack, (const std::string& text)) {
  static const Tokenizer tokenizer = load(llama2c_tokenizer_bytes(llama2c_tokens()));
  RC_PRE(text.find("\xE2\x96\x81") == std::string::npos);
  RC_ASSERT(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST(Llama2cTokenizer, FaultsNameTheToken) {
  const std::string whole = llama2c_tokenizer_bytes(llama2c_tokens());
  EXPECT_TRUE(contains(error_of(whole.substr(0, whole.size() - 1)), {"ends inside token 265"}));
  EXPECT_TRUE(contains(error_of(whole.substr(0, 3)), {"no tokenizer of llama2.c"}));
  EXPECT_TRUE(contains(error_of(whole.substr(0, 4)), {"no token <s>"}));
  EXPECT_TRUE(contains(error_of(llama2c_tokenizer_bytes({{"<s>", 0}, {"</s>", 0}, {"abcde", 0}}, 4)), {"token 2 has 5 bytes", "longest"}));
  EXPECT_TRUE(contains(error_of(llama2c_tokenizer_bytes(llama2c_tokens(), 100000)), {"100000"}));
  EXPECT_TRUE(contains(error_of(llama2c_tokenizer_bytes({{"<s>", 0}, {"</s>", 0}, {"\xFF", 0}})), {"token 2 is not UTF-8"}));
  EXPECT_TRUE(contains(error_of(llama2c_tokenizer_bytes({{"<s>", 0}, {"</s>", std::numeric_limits<float>::quiet_NaN()}})), {"score of token 1"}));
  EXPECT_TRUE(contains(error_of(llama2c_tokenizer_bytes({{"<unk>", 0}, {"<s>", 0}})), {"no token </s>"}));
}

}  // namespace
}  // namespace sememe
