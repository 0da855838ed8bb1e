#include "sememe/language/token_contexts.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/language/small_encoder.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

using testing::byte_tokenizer;
using testing::Documents;

/// Documents in which no byte comes twice, so that a token says where in which document it stands.
std::vector<std::string> documents_of(const std::vector<int>& lengths) {
  std::vector<std::string> documents;
  int byte = 1;
  for (const int length : lengths) {
    std::string text;
    for (int i = 0; i < length && byte < 256; ++i) text += static_cast<char>(byte++);
    documents.push_back(text);
  }
  return documents;
}

struct Sizes {
  int64_t context, batch_tokens, overlap;
};

Sizes some_sizes() {
  const int64_t context = *rc::gen::inRange<int64_t>(2, 12);
  return {context, context * *rc::gen::inRange<int64_t>(1, 4), *rc::gen::inRange<int64_t>(0, context - 1)};
}

std::vector<std::string> some_documents() { return documents_of(*rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 40))); }

TokenContexts contexts_of(const std::vector<std::string>& documents, const Sizes& sizes) {
  return {std::make_unique<Documents>(documents), byte_tokenizer(), sizes.context, sizes.batch_tokens, sizes.overlap};
}

std::vector<TokenBatch> all_of(TokenContexts contexts) {
  std::vector<TokenBatch> batches;
  while (std::optional<TokenBatch> batch = contexts.next()) batches.push_back(std::move(*batch));
  return batches;
}

bool same(const TokenBatch& a, const TokenBatch& b) {
  return a.tokens.equal(b.tokens) && a.targets.equal(b.targets) && a.valid.equal(b.valid) && a.valid_tokens == b.valid_tokens;
}

RC_GTEST_PROP(TokenContexts, EachTokenIsValidOnceAndStandsBehindItsOwnDocumentsTokens, ()) {
  const std::vector<std::string> documents = some_documents();
  const Sizes sizes = some_sizes();
  const Tokenizer tokenizer = byte_tokenizer();
  std::map<int64_t, std::pair<size_t, size_t>> places;  // of each token: document and position
  for (size_t i = 0; i < documents.size(); ++i) {
    const std::vector<int32_t> ids = tokenizer.encode(documents[i]);
    for (size_t at = 0; at < ids.size(); ++at) places[ids[at]] = {i, at};
  }
  std::set<int64_t> seen;
  for (const TokenBatch& batch : all_of(contexts_of(documents, sizes))) {
    const int64_t length = batch.tokens.size(1);
    RC_ASSERT(batch.tokens.numel() <= sizes.batch_tokens);
    RC_ASSERT(length <= sizes.context);
    int64_t valid_tokens = 0;
    for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
      const auto token = [&](int64_t at) { return batch.tokens[row][at].item<int64_t>(); };
      const auto valid = [&](int64_t at) { return batch.valid[row][at].item<bool>(); };
      RC_ASSERT(token(0) == tokenizer.end_of_text());
      RC_ASSERT(!valid(0));
      int64_t text = 1, known = 0;  // where the text ends; how many of its tokens an earlier context had
      while (text < length && token(text) != tokenizer.end_of_text()) ++text;
      while (known + 1 < text && !valid(known + 1)) ++known;
      const auto [document, begin] = places.at(token(1));
      RC_ASSERT(known == (begin == 0 ? 0 : sizes.overlap));
      for (int64_t at = 1; at < text; ++at) RC_ASSERT(places.at(token(at)) == std::pair(document, begin + at - 1));
      for (int64_t at = 0; at < length; ++at) {
        RC_ASSERT((valid(at) == (at > known && at < text)));
        const bool predicts = at >= known && at + 1 < text;
        RC_ASSERT(batch.targets[row][at].item<int64_t>() == (predicts ? token(at + 1) : -100));
        if (valid(at)) RC_ASSERT(seen.insert(token(at)).second);
        valid_tokens += valid(at);
      }
    }
    RC_ASSERT(batch.valid_tokens == valid_tokens);
  }
  RC_ASSERT(seen.size() == places.size());
}

RC_GTEST_PROP(TokenContexts, SkippingBatchesEqualsReadingThem, ()) {
  const std::vector<std::string> documents = some_documents();
  const Sizes sizes = some_sizes();
  const std::vector<TokenBatch> all = all_of(contexts_of(documents, sizes));
  const auto skipped = *rc::gen::inRange<size_t>(0, all.size() + 1);
  TokenContexts contexts = contexts_of(documents, sizes);
  contexts.skip(static_cast<int64_t>(skipped));
  for (size_t i = skipped; i < all.size(); ++i) RC_ASSERT(same(all[i], *contexts.next()));
  RC_ASSERT(!contexts.next().has_value());
}

TEST(TokenContexts, SkippingPastTheEndIsAnError) {
  TokenContexts contexts = contexts_of(documents_of({3, 3}), {4, 4, 0});
  testing::expect_words(testing::message_of([&] { contexts.skip(3); }), {"only 2 batches", "3"});
}

TEST(TokenContexts, ALongDocumentIsCutWithTheOverlapRepeatedAndNotValidAgain) {
  // Ten tokens in contexts of end-of-text and four: 1234, 3456, 5678, 789A with an overlap of two.
  const std::vector<TokenBatch> batches = all_of(contexts_of(documents_of({10}), {5, 20, 2}));
  ASSERT_EQ(batches.size(), 1u);
  const std::vector<int32_t> ids = byte_tokenizer().encode(documents_of({10})[0]);
  EXPECT_EQ(batches[0].valid_tokens, 10);
  for (int64_t row = 0; row < 4; ++row) {
    for (int64_t at = 0; at < 4; ++at) {
      EXPECT_EQ(batches[0].tokens[row][at + 1].item<int64_t>(), ids[2 * row + at]) << row << ", " << at;
      EXPECT_EQ(batches[0].valid[row][at + 1].item<bool>(), row == 0 || at >= 2) << row << ", " << at;
    }
  }
}

TEST(TokenContexts, DocumentsWithoutTokensGiveNothing) {
  EXPECT_TRUE(all_of(contexts_of({"", "", ""}, {4, 8, 0})).empty());
  EXPECT_TRUE(all_of(contexts_of({}, {4, 8, 0})).empty());
}

TEST(TokenContexts, TheBatchIsReadyForALanguageModelsLoss) {
  const TokenBatch batch = all_of(contexts_of(documents_of({3}), {8, 8, 0})).at(0);
  EXPECT_TRUE(batch.batch().inputs.is_same(batch.tokens));
  EXPECT_TRUE(batch.batch().targets.is_same(batch.targets));
}

TEST(TokenContexts, SizesThatDoNotFitAreWrongUsage) {
  for (const Sizes& sizes : {Sizes{1, 8, 0}, Sizes{8, 7, 0}, Sizes{8, 8, 7}, Sizes{8, 8, -1}})
    EXPECT_THROW(contexts_of({"a"}, sizes), UsageError) << sizes.context << " " << sizes.batch_tokens << " " << sizes.overlap;
  EXPECT_NO_THROW(contexts_of({"a"}, {8, 8, 6}));
}

TEST(TokenContexts, OfAnEncoderBeginAndEndAsItsTokenizerSaysAndArePadded) {
  const std::filesystem::path vocabulary = std::filesystem::temp_directory_path() / ("sememe_contexts_" + std::to_string(::getpid())) / "vocab.txt";
  std::filesystem::create_directories(vocabulary.parent_path());
  write_file(vocabulary, testing::small_vocabulary());
  const Tokenizer tokenizer = Tokenizer::load(vocabulary);
  std::filesystem::remove_all(vocabulary.parent_path());
  TokenContexts contexts(std::make_unique<Documents>(std::vector<std::string>{"a b c d e", "f"}), tokenizer, 5, 100, 0, ContextReader::kEncoder);
  const TokenBatch batch = *contexts.next();
  EXPECT_TRUE(batch.tokens.equal(torch::tensor({{2, 10, 3, -1, -1}, {2, 8, 9, 3, -1}, {2, 5, 6, 7, 3}})));
  EXPECT_TRUE(batch.valid.equal(torch::tensor({{0, 1, 0, 0, 0}, {0, 1, 1, 0, 0}, {0, 1, 1, 1, 0}}).to(torch::kBool)));
  EXPECT_TRUE(batch.targets.eq(-100).all().item<bool>());
  EXPECT_EQ(batch.valid_tokens, 6);
  EXPECT_FALSE(contexts.next());
  testing::expect_words(testing::message_of([&] { TokenContexts(std::make_unique<Documents>(std::vector<std::string>{}), tokenizer, 2, 100, 0, ContextReader::kEncoder); }),
                        {"2", "at least 3"});
}

}  // namespace
}  // namespace sememe
