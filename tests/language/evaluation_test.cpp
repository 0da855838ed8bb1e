#include "sememe/language/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sememe/base/progress.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

using testing::Documents;
using testing::expect_words;
using testing::message_of;
using testing::small_gpt2;
using testing::small_llama;
using testing::small_tokenizer;
using testing::small_transformer;

struct Evaluation : ::testing::Test {
  Evaluation() { set_quiet(true); }
  LanguageModel model{small_transformer(small_llama(), 3), small_tokenizer(), {}};

  TextLoss loss(const std::vector<std::string>& texts, int64_t batch_tokens = 8192, int64_t max_tokens = 0) const {
    return evaluate(model, std::make_unique<Documents>(texts), batch_tokens, max_tokens);
  }

  /// Nats of the tokens [begin, end) of a document, predicted from the tokens [from, ...) before each and end-of-text.
  double nats(const std::vector<int32_t>& ids, size_t from, size_t begin, size_t end) const {
    torch::NoGradGuard no_grad;
    std::vector<int64_t> inputs = {model.tokenizer.end_of_text()};
    inputs.insert(inputs.end(), ids.begin() + static_cast<int64_t>(from), ids.begin() + static_cast<int64_t>(end));
    SiteVisitor nobody;
    const torch::Tensor logits = model.network->forward({torch::tensor(inputs).unsqueeze(0), {}}, nobody);
    const torch::Tensor logs = torch::log_softmax(logits[0].to(torch::kFloat64), -1);
    double sum = 0;
    for (size_t at = begin; at < end; ++at) sum -= logs[static_cast<int64_t>(at - from)][ids[at]].item<double>();
    return sum;
  }
};

TEST_F(Evaluation, SumsEachDocumentsOwnLossAndCountsItsTokensAndBytes) {
  const std::vector<std::string> texts = {"the cat", "", "and the dog sat", "é on", "on"};
  double expected = 0;
  int64_t tokens = 0, bytes = 0;
  for (const std::string& text : texts) {
    const std::vector<int32_t> ids = model.tokenizer.encode(text);
    expected += nats(ids, 0, 0, ids.size());
    tokens += static_cast<int64_t>(ids.size());
    bytes += static_cast<int64_t>(text.size());
  }
  for (const int64_t batch_tokens : {1, 30, 8192}) {
    const TextLoss found = loss(texts, batch_tokens);
    EXPECT_NEAR(found.nats, expected, 1e-4 * expected) << batch_tokens;
    EXPECT_EQ(found.tokens, tokens);
    EXPECT_EQ(found.bytes, bytes);
  }
}

TEST_F(Evaluation, TokensOfALongDocumentArePredictedFromAtLeastHalfAContext) {
  const std::vector<int32_t> ids = model.tokenizer.encode("xxxxx the quick brown fox jumps over the lazy dog, 0123456789!");
  ASSERT_GT(ids.size(), 40u);
  // Context 24: end-of-text and 23 tokens, of which later contexts repeat 11.
  double expected = nats(ids, 0, 0, 23);
  for (size_t begin = 23; begin < ids.size(); begin += 12)
    expected += nats(ids, begin - 11, begin, std::min(begin + 12, ids.size()));
  const TextLoss found = loss({model.tokenizer.decode(ids)});
  EXPECT_NEAR(found.nats, expected, 1e-4 * expected);
  EXPECT_EQ(found.tokens, static_cast<int64_t>(ids.size()));
}

TEST_F(Evaluation, ANetworkOfZerosNeedsTheLogarithmOfTheVocabulary) {
  model.network = std::make_shared<Transformer>(small_gpt2());
  const TextLoss found = loss({"the cat sat on the mat"});
  EXPECT_NEAR(found.nats_per_token(), std::log(300.0), 1e-5);
  EXPECT_NEAR(found.perplexity(), 300, 0.01);
  EXPECT_NEAR(found.bits_per_byte(), std::log2(300.0) * static_cast<double>(found.tokens) / 22, 1e-4);
}

TEST_F(Evaluation, StopsAfterTheBatchThatReachesTheNumberOfTokensAskedFor) {
  const std::vector<std::string> texts(50, "xyz");
  const TextLoss found = loss(texts, 24, 10);  // six contexts of four a batch, 18 tokens
  EXPECT_EQ(found.tokens, 18);
}

TEST_F(Evaluation, ATextWithoutTokensIsAnError) {
  expect_words(message_of([&] { loss({}); }), {"no tokens"});
  expect_words(message_of([&] { loss({"", ""}); }), {"no tokens"});
}

TEST_F(Evaluation, ALossThatIsNoNumberNamesTheModel) {
  torch::NoGradGuard no_grad;
  model.folder = "some/model";
  model.network->named_parameters()["norm"].fill_(std::numeric_limits<float>::quiet_NaN());
  expect_words(message_of([&] { loss({"the cat"}); }), {"some/model", "not finite"});
}

}  // namespace
}  // namespace sememe
