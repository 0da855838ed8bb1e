#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "sememe/language/language_model.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

using testing::byte_tokenizer;
using testing::expect_words;
using testing::message_of;
using testing::small_gpt2;
using testing::small_llama;
using testing::small_tokenizer;
using testing::small_transformer;

LanguageModel random_model(const TransformerConfig& config) { return {small_transformer(config, 7), small_tokenizer(), {}}; }

/// A network whose blocks do nothing, so that the next token depends on the last one only: the embedding of token i is the
/// i-th unit vector and `next` [from, to] holds the logits.
LanguageModel bigram_model(const std::vector<std::pair<std::pair<int32_t, int32_t>, float>>& next) {
  torch::NoGradGuard no_grad;
  TransformerConfig config = small_llama();
  config.vocabulary = config.width = 257;
  config.tied_head = false;
  config.layers = 1;
  auto network = std::make_shared<Transformer>(config);
  auto parameters = network->named_parameters();
  parameters["embedding"].copy_(torch::eye(257));
  parameters["head"].fill_(-100);
  const double size = 1 / std::sqrt(1.0 / 257 + config.norm_epsilon);  // of a unit vector after the norm
  for (const auto& [ids, logit] : next) parameters["head"][ids.second][ids.first] = logit / size;
  return {network, byte_tokenizer(), {}};
}

int32_t id_of(const LanguageModel& model, const std::string& character) { return model.tokenizer.encode(character).at(0); }

std::string continue_text(const LanguageModel& model, const std::string& prompt, const GenerateOptions& options) {
  SiteVisitor nobody;
  return generate(model, prompt, options, nobody);
}

class GenerateEachFamily : public ::testing::TestWithParam<TransformerConfig> {};
INSTANTIATE_TEST_SUITE_P(Generate, GenerateEachFamily, ::testing::Values(small_llama(), small_gpt2()));

TEST_P(GenerateEachFamily, TheSameSeedGivesTheSameTextAndAnotherSeedAnother) {
  const LanguageModel model = random_model(GetParam());
  const GenerateOptions options{.tokens = 12, .temperature = 1.0, .top_k = 0, .seed = 3};
  GenerateOptions other = options;
  other.seed = 4;
  EXPECT_EQ(continue_text(model, "the cat", options), continue_text(model, "the cat", options));
  EXPECT_NE(continue_text(model, "the cat", options), continue_text(model, "the cat", other));
}

TEST_P(GenerateEachFamily, TemperatureZeroTakesTheMostLikelyTokenOfAWholePassEachTime) {
  torch::NoGradGuard no_grad;
  const LanguageModel model = random_model(GetParam());
  const std::vector<int32_t> prompt = model.tokenizer.encode("the cat");
  std::vector<int64_t> ids = {model.tokenizer.end_of_text()};
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  std::vector<int32_t> expected;
  SiteVisitor nobody;
  while (expected.size() < 10) {
    const torch::Tensor logits = model.network->forward({torch::tensor(ids).unsqueeze(0), {}}, nobody);
    const auto id = logits[0][-1].narrow(0, 0, model.tokenizer.size()).argmax().item<int64_t>();
    if (id == model.tokenizer.end_of_text()) break;
    ids.push_back(id);
    expected.push_back(static_cast<int32_t>(id));
  }
  const GenerateOptions greedy{.tokens = 10, .temperature = 0}, only_one{.tokens = 10, .temperature = 1.0, .top_k = 1};
  EXPECT_EQ(continue_text(model, "the cat", greedy), model.tokenizer.decode(expected));
  EXPECT_EQ(continue_text(model, "the cat", only_one), model.tokenizer.decode(expected));
}

TEST_P(GenerateEachFamily, AVisitorSeesThePromptOnceAndThenEachNewToken) {
  struct Lengths : SiteVisitor {
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      if (site.name == "blocks.1.output") seen.push_back(value.size(1));
      return value;
    }
    std::vector<int64_t> seen;
  } lengths;
  const LanguageModel model = random_model(GetParam());
  const auto prompt = static_cast<int64_t>(model.tokenizer.encode("the cat").size());
  generate(model, "the cat", {.tokens = 4, .temperature = 0}, lengths);
  EXPECT_EQ(lengths.seen, (std::vector<int64_t>{prompt + 1, 1, 1, 1}));
}

TEST(Generate, StopsAtEndOfTextAndGivesEachPieceOnce) {
  LanguageModel model = bigram_model({});
  const int32_t end = model.tokenizer.end_of_text(), a = id_of(model, "a"), b = id_of(model, "b");
  model = bigram_model({{{end, a}, 5}, {{a, b}, 5}, {{b, end}, 5}});
  std::vector<std::string> pieces;
  SiteVisitor nobody;
  const auto keep = [&](std::string_view piece) { pieces.emplace_back(piece); };
  EXPECT_EQ(generate(model, "", {.tokens = 20}, nobody, keep), "ab");
  EXPECT_EQ(pieces, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(continue_text(model, "xa", {.tokens = 20}), "b");
  EXPECT_EQ(continue_text(model, "b", {.tokens = 20}), "");
}

TEST(Generate, GivesNoMoreTokensThanAskedForAndNoneForZero) {
  LanguageModel model = bigram_model({});
  const int32_t a = id_of(model, "a");
  model = bigram_model({{{a, a}, 5}});
  EXPECT_EQ(continue_text(model, "a", {.tokens = 3}), "aaa");
  EXPECT_EQ(continue_text(model, "a", {.tokens = 0}), "");
}

TEST(Generate, EndsWithTheContext) {
  LanguageModel model = bigram_model({});
  const int32_t a = id_of(model, "a");
  model = bigram_model({{{a, a}, 5}});
  // Context 24: end-of-text, the prompt, and what fits; the last token needs no place.
  EXPECT_EQ(continue_text(model, "aaaa", {.tokens = 100}), std::string(24 - 5 + 1, 'a'));
  EXPECT_EQ(continue_text(model, std::string(23, 'a'), {.tokens = 100}), "a");
}

TEST(Generate, APromptThatDoesNotFitNamesBothLengths) {
  const LanguageModel model = bigram_model({});
  expect_words(message_of([&] { continue_text(model, std::string(24, 'a'), {}); }), {"prompt", "25 tokens", "24"});
}

TEST(Generate, TokensAreDrawnAsOftenAsTheyAreLikely) {
  LanguageModel model = bigram_model({});
  const int32_t end = model.tokenizer.end_of_text(), a = id_of(model, "a"), b = id_of(model, "b"), c = id_of(model, "c");
  const auto logit = [](double probability) { return static_cast<float>(std::log(probability)); };
  model = bigram_model({{{end, a}, logit(0.6)}, {{end, b}, logit(0.3)}, {{end, c}, logit(0.1)}});
  const auto share_of_a = [&](double temperature, int64_t top_k) {
    int found = 0;
    for (uint64_t seed = 0; seed < 1500; ++seed)
      found += continue_text(model, "", {.tokens = 1, .temperature = temperature, .top_k = top_k, .seed = seed}) == "a";
    return found / 1500.0;
  };
  EXPECT_NEAR(share_of_a(1.0, 0), 0.6, 0.04);
  EXPECT_NEAR(share_of_a(1.0, 2), 0.6 / 0.9, 0.04);
  EXPECT_NEAR(share_of_a(0.5, 0), 0.36 / (0.36 + 0.09 + 0.01), 0.04);
}

TEST(Generate, IdsThatTheTokenizerDoesNotHaveAreNeverDrawn) {
  torch::NoGradGuard no_grad;
  TransformerConfig config = small_llama();
  config.tied_head = false;
  const LanguageModel model{small_transformer(config), small_tokenizer(), {}};  // 270 tokens, 300 rows in the head
  model.network->named_parameters()["head"].narrow(0, 270, 30).mul_(1000);
  for (uint64_t seed = 0; seed < 20; ++seed) EXPECT_NO_THROW(continue_text(model, "the", {.tokens = 5, .seed = seed}));
}

TEST(Generate, AVisitorThatStopsTheNetworkIsAnError) {
  struct Stop : SiteVisitor {
    bool finished() const override { return true; }
  } stop;
  const LanguageModel model = random_model(small_llama());
  expect_words(message_of([&] { generate(model, "the", {}, stop); }), {"visitor"});
}

TEST(Generate, LogitsThatAreNoNumbersAreAnError) {
  torch::NoGradGuard no_grad;
  const LanguageModel model = random_model(small_llama());
  model.network->named_parameters()["norm"].fill_(std::numeric_limits<float>::quiet_NaN());
  expect_words(message_of([&] { continue_text(model, "the", {}); }), {"not finite"});
}

TEST(Generate, NegativeOptionsAreWrongUsage) {
  const LanguageModel model = random_model(small_llama());
  EXPECT_THROW(continue_text(model, "the", {.tokens = -1}), UsageError);
  EXPECT_THROW(continue_text(model, "the", {.temperature = -0.1}), UsageError);
  EXPECT_THROW(continue_text(model, "the", {.temperature = std::nan("")}), UsageError);
  EXPECT_THROW(continue_text(model, "the", {.top_k = -1}), UsageError);
}

TEST(Generate, TopPKeepsTheLikeliestThatHoldThisMuch) {
  LanguageModel model = bigram_model({});
  const int32_t end = model.tokenizer.end_of_text(), a = id_of(model, "a"), b = id_of(model, "b"), c = id_of(model, "c");
  const auto logit = [](double probability) { return static_cast<float>(std::log(probability)); };
  model = bigram_model({{{end, a}, logit(0.6)}, {{end, b}, logit(0.3)}, {{end, c}, logit(0.1)}});
  const auto share_of_a = [&](double top_p) {
    int count = 0;
    for (uint64_t seed = 0; seed < 500; ++seed)
      count += continue_text(model, "", {.tokens = 1, .temperature = 1.0, .top_k = 0, .seed = seed, .top_p = top_p}) == "a";
    return count / 500.0;
  };
  EXPECT_EQ(share_of_a(0.3), 1.0);
  EXPECT_NEAR(share_of_a(0.65), 0.6 / 0.9, 0.06);
  EXPECT_NEAR(share_of_a(1.0), 0.6, 0.06);
  EXPECT_THROW(continue_text(model, "", {.top_p = 0.0}), UsageError);
}

TEST(GenerateSamples, GreedyRowsAreWhatGenerateWrites) {
  const LanguageModel model = random_model(small_llama());
  SiteVisitor nobody;
  const GenerateOptions greedy{.tokens = 10, .temperature = 0};
  for (const std::vector<int32_t>& sample : generate_samples(model, "the cat", 3, greedy, nobody))
    EXPECT_EQ(model.tokenizer.decode(sample), continue_text(model, "the cat", greedy));
}

TEST(GenerateSamples, ARowIsTheSameWhateverRowsStandBesideIt) {
  const LanguageModel model = random_model(small_llama());
  SiteVisitor nobody;
  const GenerateOptions options{.tokens = 8, .temperature = 1.0, .seed = 4};
  const auto few = generate_samples(model, "the", 2, options, nobody), many = generate_samples(model, "the", 5, options, nobody);
  EXPECT_EQ(few[0], many[0]);
  EXPECT_EQ(few[1], many[1]);
  EXPECT_NE(few[0], few[1]);
}

TEST(GenerateSamples, EachRowStopsAtItsOwnEndOfText) {
  LanguageModel model = bigram_model({});
  const int32_t end = model.tokenizer.end_of_text(), a = id_of(model, "a"), b = id_of(model, "b");
  model = bigram_model({{{end, a}, 5}, {{a, b}, 5}, {{a, end}, 5}, {{b, a}, 5}});
  SiteVisitor nobody;
  for (const std::vector<int32_t>& sample : generate_samples(model, "", 20, {.tokens = 12, .temperature = 1.0}, nobody)) {
    EXPECT_EQ(std::count(sample.begin(), sample.end(), end), 0);
    EXPECT_TRUE(sample.size() == 12 || sample.back() == a);
  }
}

}  // namespace
}  // namespace sememe
