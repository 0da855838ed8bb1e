#include "sememe/language/token_texts.h"

#include <gtest/gtest.h>

#include "tests/language/small_model.h"

namespace sememe {
namespace {

TEST(TokenTexts, AreBeginningsOfDocumentsThatAreLongEnough) {
  const Tokenizer tokenizer = testing::byte_tokenizer();
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  testing::Documents documents({text, "short", text + text, "enough", text});
  const auto texts = token_texts(documents, tokenizer, 7, 10, 3);
  ASSERT_EQ(texts.size(), 3u);
  for (const std::vector<int32_t>& ids : texts) EXPECT_EQ(ids[0], tokenizer.opening());
  EXPECT_EQ(texts[0].size(), 10u);
  EXPECT_EQ(texts[1], texts[0]);
  EXPECT_EQ(texts[2].size(), 7u);
  EXPECT_EQ(tokenizer.decode(std::span(texts[2]).subspan(1)), "enough");
  testing::Documents few({text});
  EXPECT_EQ(token_texts(few, tokenizer, 7, 10, 3).size(), 1u);
}

}  // namespace
}  // namespace sememe
