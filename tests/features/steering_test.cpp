#include "sememe/features/steering.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

const char* const kSite = "blocks.0.output";
const double kUnit = 20.0;

/// Adds a row to all tokens but the first, in one pass.
struct Shift : SiteVisitor {
  explicit Shift(torch::Tensor what) : row(std::move(what)) {}
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (site.name != kSite) return value;
    torch::Tensor changed = value.clone();
    changed.narrow(1, 1, value.size(1) - 1).add_(row);
    return changed;
  }
  torch::Tensor row;
};

class Steering : public ::testing::Test {
 protected:
  void SetUp() override {
    // With logits this small nothing would change the most likely token.
    for (torch::Tensor& parameter : model_.network->parameters()) parameter.data().mul_(3.0);
  }
  SteeringOptions options(std::vector<double> strengths) const {
    return {.site = kSite, .prompt = "the cat", .latent = 3, .strengths = std::move(strengths), .unit = {kUnit, "twenty"},
            .generate = {.tokens = 6, .temperature = 0.0}};
  }
  /// End-of-text and the tokens of a text.
  torch::Tensor ids(const std::string& text) const {
    std::vector<int64_t> all{model_.tokenizer.end_of_text()};
    for (const int32_t id : model_.tokenizer.encode(text)) all.push_back(id);
    return torch::tensor(all).unsqueeze(0);
  }
  /// Log-probabilities of the tokenizer's ids after each token, by one pass over all of them.
  torch::Tensor predict(const torch::Tensor& tokens, SiteVisitor& visitor) const {
    const torch::NoGradGuard no_autograd;
    return model_.network->forward({tokens, {}}, visitor)[0].narrow(-1, 0, model_.tokenizer.size()).to(torch::kDouble).log_softmax(-1);
  }
  std::string message(const SteeringOptions& options) const {
    return error_from([&] { steer(dictionary_, model_, options); });
  }
  torch::Tensor addition(double strength) const { return dictionary_.atoms()[3] * (kUnit * strength); }

  LanguageModel model_ = small_language_model();
  TopKDictionary dictionary_{perfect_weights(16), 32, Json::object()};
};

TEST_F(Steering, ReachesEveryTokenOfPromptAndContinuationOnce) {
  for (const double strength : {3.0, -3.0}) {
    InterveneSite visitor(kSite, addition(strength));
    std::string continued;
    int64_t generated = 0;
    generate(model_, "the cat", {.tokens = 8, .temperature = 0.0}, visitor, [&](std::string_view piece) {
      continued += piece;
      ++generated;
    });
    ASSERT_GT(generated, 2);
    // All were given back to the model but the last, and the prompt without its end-of-text.
    const int64_t prompt = ids("the cat").size(1) - 1;
    EXPECT_EQ(visitor.edited(), prompt + generated - 1);
    // The same text comes out when every token but the end-of-text is steered in passes over the whole text so far.
    torch::Tensor tokens = ids("the cat");
    std::string wanted;
    for (int64_t i = 0; i < generated; ++i) {
      Shift shift(addition(strength));
      const torch::Tensor next = predict(tokens, shift)[-1].argmax();
      wanted += model_.tokenizer.token(next.item<int32_t>());
      tokens = torch::cat({tokens, next.view({1, 1})}, 1);
    }
    EXPECT_EQ(continued, wanted);
  }
}

TEST_F(Steering, AtStrengthZeroNothingChanges) {
  SteeringOptions zero = options({0.0});
  zero.generate = {.tokens = 6, .temperature = 1.0, .seed = 5};
  const Json result = steer(dictionary_, model_, zero);
  const Json& steered = result["steered"][0];
  EXPECT_EQ(steered["after"], result["before"]);
  EXPECT_EQ(steered["kl"].get<double>(), 0.0);
  EXPECT_EQ(steered["kl_prompt"].get<double>(), 0.0);
  EXPECT_TRUE(steered["raised"].empty());
  EXPECT_TRUE(steered["lowered"].empty());
}

TEST_F(Steering, ReportsTheShiftOfTheNextToken) {
  const Json result = steer(dictionary_, model_, options({-2.0, 1.5}));
  ASSERT_EQ(result["steered"].size(), 2u);
  SiteVisitor nothing;
  const torch::Tensor before = predict(ids("the cat"), nothing);
  for (const Json& steered : result["steered"]) {
    const double strength = steered["strength"].get<double>();
    Shift shift(addition(strength));
    const torch::Tensor after = predict(ids("the cat"), shift);
    const torch::Tensor kl = (before.exp() * (before - after)).sum(-1);
    EXPECT_NEAR(steered["norm"].get<double>(), kUnit * strength, 1e-12);
    EXPECT_NEAR(steered["kl"].get<double>(), kl[-1].item<double>(), 1e-7);
    EXPECT_NEAR(steered["kl_prompt"].get<double>(), kl.narrow(0, 1, kl.size(0) - 1).mean().item<double>(), 1e-6);
    EXPECT_GT(kl[-1].item<double>(), 1e-3);
    const torch::Tensor change = after[-1].exp() - before[-1].exp();
    const Json& raised = steered["raised"][0];
    EXPECT_NEAR(raised["after"].get<double>() - raised["before"].get<double>(), change.max().item<double>(), 1e-6);
    const Json& lowered = steered["lowered"][0];
    EXPECT_NEAR(lowered["after"].get<double>() - lowered["before"].get<double>(), change.min().item<double>(), 1e-6);
    for (const Json& move : steered["raised"]) EXPECT_GT(move["after"].get<double>(), move["before"].get<double>());
    for (const Json& move : steered["lowered"]) EXPECT_LT(move["after"].get<double>(), move["before"].get<double>());
  }
}

TEST_F(Steering, AddsTheUnitDirectionWhateverTheAtomsNorm) {
  AutoencoderWeights weights = perfect_weights(16);
  weights.decoder.mul_(5.0);
  EXPECT_EQ(steer(TopKDictionary(weights, 32, Json::object()), model_, options({1.0}))["steered"],
            steer(dictionary_, model_, options({1.0}))["steered"]);
}

TEST_F(Steering, SteeringIsTheSameOnEachRun) {
  SteeringOptions drawn = options({1.0});
  drawn.generate = {.tokens = 6, .temperature = 1.0, .seed = 5};
  EXPECT_EQ(steer(dictionary_, model_, drawn), steer(dictionary_, model_, drawn));
}

TEST_F(Steering, TheUnitOfADescriptionIsTheTypicalContribution) {
  AutoencoderWeights weights = perfect_weights(16);
  weights.decoder.mul_(5.0);
  EXPECT_NEAR(unit_of_description(TopKDictionary(weights, 32, Json::object()), 3, 0.5).norm, 2.5, 1e-6);
  EXPECT_TRUE(contains(error_from([&] { unit_of_description(dictionary_, 3, 0.0); }), {"latent 3", "never fired"}));
  EXPECT_THROW(unit_of_description(dictionary_, 32, 1.0), UsageError);
}

TEST_F(Steering, TheUnitOfAPromptIsItsMeanNormAtTheSite) {
  struct Norms : SiteVisitor {
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      if (site.name == kSite) norms = value[0].norm(2, {-1});
      return value;
    }
    torch::Tensor norms;
  } visitor;
  predict(ids("the cat"), visitor);
  const torch::Tensor prompt = visitor.norms.narrow(0, 1, visitor.norms.size(0) - 1);
  EXPECT_NEAR(unit_of_prompt(model_, kSite, "the cat").norm, prompt.mean().item<double>(), 1e-5);
  EXPECT_GT(std::abs(prompt.mean().item<double>() - visitor.norms.mean().item<double>()), 1e-4);
  EXPECT_THROW(unit_of_prompt(model_, kSite, ""), UsageError);
  EXPECT_THROW(unit_of_prompt(model_, "nowhere", "the cat"), UsageError);
}

TEST_F(Steering, WrongRequestsAreRefused) {
  const auto message_with = [&](auto change) {
    SteeringOptions changed = options({1.0});
    change(changed);
    return message(changed);
  };
  EXPECT_EQ(message_with([](SteeringOptions&) {}), "no error");
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.latent = 32; }), {"latent 32", "0 to 31"}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.latent = -1; }), {"latent -1"}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.site = "nowhere"; }), {"nowhere", kSite}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.site = "blocks.0.mlp.act"; }), {"width is 16", "20"}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.prompt = ""; }), {"--prompt", "empty"}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.prompt = std::string(60, 'x'); }), {"61 tokens", "context is 24"}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.strengths = {std::numeric_limits<double>::infinity()}; }),
                       {"--strength", "finite"}));
  EXPECT_TRUE(contains(message_with([](SteeringOptions& wrong) { wrong.strengths = {1e39}; }), {"smaller strength"}));
}

}  // namespace
}  // namespace sememe
