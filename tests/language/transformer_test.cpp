#include "sememe/language/transformer.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <utility>

#include "sememe/base/error.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

using testing::small_gemma;
using testing::small_gpt2;
using testing::small_llama;
using testing::small_neox;
using testing::small_phi;
using testing::small_transformer;
using testing::some_tokens;

struct Recorder : SiteVisitor {
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    names.push_back(site.name);
    EXPECT_EQ(value.size(-1), site.width) << site.name;
    done = site.name == last;
    return value;
  }
  bool finished() const override { return done; }
  std::vector<std::string> names;
  std::string last;
  bool done = false;
};

struct Zero : SiteVisitor {
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    return site.name == "blocks.1.output" ? torch::zeros_like(value) : value;
  }
};

/// Changes what passes at one site.
struct Replacer : SiteVisitor {
  torch::Tensor visit(const Site& at, torch::Tensor value) override { return at.name == site ? change(value) : value; }
  std::string site;
  std::function<torch::Tensor(const torch::Tensor&)> change;
};

class EachFamily : public ::testing::TestWithParam<TransformerConfig> {};
INSTANTIATE_TEST_SUITE_P(Transformer, EachFamily, ::testing::Values(small_llama(), small_gpt2(), small_gemma(), small_neox(), small_phi()));

TEST_P(EachFamily, VisitorSeesAllSitesInOrder) {
  const auto network = small_transformer(GetParam());
  Recorder recorder;
  EXPECT_TRUE(network->forward({some_tokens(2, 5, 300), {}}, recorder).defined());
  std::vector<std::string> expected;
  for (const Site& site : network->sites()) expected.push_back(site.name);
  EXPECT_EQ(recorder.names, expected);
  EXPECT_EQ(expected.front(), "embedding");
  EXPECT_EQ(expected[6], "blocks.1.attention");
  EXPECT_EQ(expected.back(), "norm");
}

TEST_P(EachFamily, StopsAfterTheSiteThatFinishesTheVisitor) {
  const auto network = small_transformer(GetParam());
  for (const Site& site : network->sites()) {
    Recorder recorder;
    recorder.last = site.name;
    EXPECT_FALSE(network->forward({some_tokens(1, 4, 300), {}}, recorder).defined());
    EXPECT_EQ(recorder.names.back(), site.name);
  }
}

TEST_P(EachFamily, WhatTheVisitorReturnsFlowsOn) {
  const auto network = small_transformer(GetParam());
  Zero zero;
  const torch::Tensor logits = network->forward({some_tokens(1, 4, 300), {}}, zero);
  EXPECT_TRUE(logits.allclose(logits.select(1, 0).unsqueeze(1).expand_as(logits)));
}

TEST_P(EachFamily, SitesHaveTheWidthsOfTheConfig) {
  const auto network = small_transformer(GetParam());
  for (const Site& site : network->sites()) EXPECT_EQ(site.width, site.name.ends_with("mlp.act") ? 20 : 16) << site.name;
  EXPECT_EQ(network->sites().size(), 2u + 2 * 5);
}

TEST_P(EachFamily, NoSiteIsVisitedAfterTheOneThatFinishes) {
  const auto network = small_transformer(GetParam());
  for (size_t i = 0; i < network->sites().size(); ++i) {
    Recorder recorder;
    recorder.last = network->sites()[i].name;
    network->forward({some_tokens(1, 4, 300), {}}, recorder);
    EXPECT_EQ(recorder.names.size(), i + 1) << recorder.last;
  }
}

TEST_P(EachFamily, AVisitorThatOnlyLooksChangesNoBit) {
  const auto network = small_transformer(GetParam());
  const torch::Tensor tokens = some_tokens(2, 9, 300);
  SiteVisitor nobody;
  Recorder recorder;
  EXPECT_TRUE(network->forward({tokens, {}}, nobody).equal(network->forward({tokens, {}}, recorder)));
}

TEST_P(EachFamily, ZeroingAnOutputEqualsANetworkWhoseMatrixAndBiasAreZero) {
  torch::NoGradGuard no_grad;
  for (const auto& [site, matrix] : {std::pair{"blocks.1.mlp", "block1.down"}, {"blocks.0.mlp", "block0.down"},
                                     {"blocks.0.mlp.act", "block0.up"}, {"blocks.1.attention", "block1.output"}}) {
    const auto network = small_transformer(GetParam()), without = small_transformer(GetParam());
    const torch::Tensor tokens = some_tokens(2, 7, 300);
    SiteVisitor nobody;
    Replacer zero;
    zero.site = site;
    zero.change = [](const torch::Tensor& value) { return torch::zeros_like(value); };
    const torch::Tensor whole = network->forward({tokens, {}}, nobody), zeroed = network->forward({tokens, {}}, zero);
    auto parameters = without->named_parameters();
    parameters[matrix].zero_();
    EXPECT_TRUE(zeroed.allclose(without->forward({tokens, {}}, nobody), 1e-5, 1e-6)) << site;
    EXPECT_FALSE(zeroed.allclose(whole, 1e-3, 1e-3)) << site;
  }
}

TEST_P(EachFamily, AStreamTakenFromAnotherInputGivesThatInputsLogits) {
  torch::NoGradGuard no_grad;
  const auto network = small_transformer(GetParam());
  const torch::Tensor from = some_tokens(1, 6, 300), to = some_tokens(1, 6, 300).flip(1);
  SiteVisitor nobody;
  const torch::Tensor expected = network->forward({from, {}}, nobody);
  for (const char* const site : {"embedding", "blocks.0.output", "blocks.1.output", "norm"}) {
    torch::Tensor kept;
    Replacer keep, patch;
    keep.site = patch.site = site;
    keep.change = [&](const torch::Tensor& value) { return kept = value; };
    patch.change = [&](const torch::Tensor&) { return kept; };
    network->forward({from, {}}, keep);
    EXPECT_TRUE(network->forward({to, {}}, patch).equal(expected)) << site;
  }
}

TEST_P(EachFamily, TokenByTokenEqualsTheWholePassForEveryGrouping) {
  torch::NoGradGuard no_grad;
  for (const int64_t groups : {1, 2, 4}) {
    TransformerConfig config = GetParam();
    config.key_value_heads = groups;
    const auto network = small_transformer(config, 9);
    const torch::Tensor tokens = some_tokens(3, config.context, 300);
    SiteVisitor nobody;
    const torch::Tensor whole = network->forward({tokens, {}}, nobody);
    KeyValueCache cache;
    for (int64_t at = 0; at < config.context; ++at) {
      const torch::Tensor logits = network->forward({tokens.narrow(1, at, 1), {}}, nobody, cache);
      ASSERT_TRUE(logits.select(1, 0).allclose(whole.select(1, at), 1e-4, 1e-5)) << groups << " groups, token " << at;
    }
    EXPECT_THROW(network->forward({tokens.narrow(1, 0, 1), {}}, nobody, cache), Error);  // the context is full
  }
}

TEST_P(EachFamily, SharedKeysAndValuesEqualRepeatedOnes) {
  torch::NoGradGuard no_grad;
  TransformerConfig shared_config = GetParam(), repeated_config = GetParam();
  shared_config.key_value_heads = 2;
  repeated_config.key_value_heads = 4;
  const auto shared = small_transformer(shared_config, 5);
  const auto repeated = std::make_shared<Transformer>(repeated_config);
  auto parameters = repeated->named_parameters();
  for (const auto& item : shared->named_parameters()) {
    torch::Tensor value = item.value();
    if (!value.sizes().equals(parameters[item.key()].sizes())) {  // each head's rows, once for each query head of its group
      std::vector<int64_t> by_head = value.sizes().vec();
      by_head[0] = 4;
      by_head.insert(by_head.begin(), 2);
      value = value.view(by_head).repeat_interleave(2, 0).view(parameters[item.key()].sizes());
    }
    parameters[item.key()].copy_(value);
  }
  const torch::Tensor tokens = some_tokens(2, 11, 300);
  SiteVisitor nobody;
  EXPECT_TRUE(shared->forward({tokens, {}}, nobody).allclose(repeated->forward({tokens, {}}, nobody), 1e-5, 1e-6));
}

TEST_P(EachFamily, CachedStepsEqualTheWholePass) {
  torch::NoGradGuard no_grad;
  const auto network = small_transformer(GetParam());
  const torch::Tensor tokens = some_tokens(2, 20, 300);
  SiteVisitor nobody;
  const torch::Tensor whole = network->forward({tokens, {}}, nobody);
  KeyValueCache cache;
  int64_t begin = 0;
  for (const int64_t length : {7, 1, 1, 5, 6}) {  // a prompt, single tokens, and several tokens after a past
    const torch::Tensor logits = network->forward({tokens.narrow(1, begin, length), {}}, nobody, cache);
    begin += length;
    ASSERT_EQ(logits.size(1), 1);  // of the last token alone
    EXPECT_TRUE(logits.allclose(whole.narrow(1, begin - 1, 1), 1e-4, 1e-5));
  }
  EXPECT_EQ(cache.tokens, 20);
}

TEST_P(EachFamily, LaterTokensDoNotReachEarlierOnes) {
  torch::NoGradGuard no_grad;
  const auto network = small_transformer(GetParam());
  torch::Tensor tokens = some_tokens(1, 10, 300);
  SiteVisitor nobody;
  const torch::Tensor before = network->forward({tokens, {}}, nobody);
  tokens[0][6] = 5;
  const torch::Tensor after = network->forward({tokens, {}}, nobody);
  EXPECT_TRUE(before.narrow(1, 0, 6).equal(after.narrow(1, 0, 6)));
  EXPECT_FALSE(before.narrow(1, 6, 4).allclose(after.narrow(1, 6, 4)));
}

TEST_P(EachFamily, ParametersAreThoseOfTheDescription) {
  const auto network = small_transformer(GetParam());
  std::map<std::string, std::vector<int64_t>> found, described;
  for (const auto& item : network->named_parameters()) found[item.key()] = item.value().sizes().vec();
  for (const ParameterShape& parameter : parameter_shapes(GetParam())) described[parameter.name] = parameter.shape;
  EXPECT_EQ(found, described);
}

TEST_P(EachFamily, GradientsAgreeWithFiniteDifferences) {
  const auto network = small_transformer(GetParam());
  const torch::Tensor tokens = some_tokens(2, 8, 300);
  const Batch batch{tokens, tokens.roll(-1, 1)};
  SiteVisitor nobody;
  const auto loss = [&] { return network->loss(network->forward(batch, nobody), batch); };
  loss().backward();
  for (auto& item : network->named_parameters()) {
    torch::NoGradGuard no_grad;
    torch::Tensor& parameter = item.value();
    // Along the gradient itself, where the loss changes most and rounding matters least.
    const torch::Tensor direction = parameter.grad() / parameter.grad().norm().clamp_min(1e-12);
    const double slope = parameter.grad().norm().item<double>();
    if (slope < 1e-2) continue;  // float32 cannot resolve it (a key's bias, for one, changes nothing)
    constexpr double step = 2e-3;
    parameter.add_(direction, step);
    const double above = loss().item<double>();
    parameter.sub_(direction, 2 * step);
    const double below = loss().item<double>();
    parameter.add_(direction, step);
    EXPECT_NEAR((above - below) / (2 * step), slope, 0.01 * slope + 1e-3) << item.key();
  }
}

TEST(Transformer, ALocalLayerSeesItsWindowAndNoMore) {
  torch::NoGradGuard no_grad;
  TransformerConfig config = small_llama();
  config.layers = 1;
  config.window = 3;
  config.local_layers = {true};
  const auto network = small_transformer(config);
  torch::Tensor tokens = some_tokens(1, 8, 300);
  SiteVisitor nobody;
  const torch::Tensor before = network->forward({tokens, {}}, nobody);
  tokens[0][2] = 5;
  const torch::Tensor after = network->forward({tokens, {}}, nobody);
  for (int64_t token = 0; token < 8; ++token)
    EXPECT_EQ(before.select(1, token).equal(after.select(1, token)), token < 2 || token > 4) << token;
}

TEST(Transformer, LearnedPositionsBeginBehindTheirOffset) {
  torch::NoGradGuard no_grad;
  TransformerConfig config = small_gpt2();
  const auto plain = small_transformer(config);
  config.position_offset = 2;
  const auto shifted = small_transformer(config);
  auto parameters = shifted->named_parameters();
  parameters["positions"].narrow(0, 2, config.context).copy_(plain->named_parameters()["positions"]);
  const torch::Tensor tokens = some_tokens(1, 8, 300);
  SiteVisitor nobody;
  EXPECT_TRUE(shifted->forward({tokens, {}}, nobody).equal(plain->forward({tokens, {}}, nobody)));
}

TEST(Transformer, TargetsOfMinusHundredAreLeftOut) {
  const auto network = small_transformer(small_llama());
  const torch::Tensor tokens = some_tokens(1, 6, 300);
  SiteVisitor nobody;
  const torch::Tensor logits = network->forward({tokens, {}}, nobody);
  torch::Tensor targets = torch::full({1, 6}, -100, torch::kInt64);
  targets[0][2] = 7;
  const double expected = -torch::log_softmax(logits, -1)[0][2][7].item<double>();
  EXPECT_NEAR(network->loss(logits, {tokens, targets}).item<double>(), expected, 1e-5);
}

TEST(Transformer, InitialisationDependsOnSeedAndNameOnly) {
  TransformerConfig deeper = small_llama();
  const auto a = small_transformer(deeper, 3), b = small_transformer(deeper, 3), c = small_transformer(deeper, 4);
  EXPECT_TRUE(a->head().equal(b->head()));
  EXPECT_FALSE(a->head().equal(c->head()));
}

TEST(Transformer, TooManyTokensNameTheContext) {
  const auto network = small_transformer(small_llama());
  SiteVisitor nobody;
  try {
    network->forward({some_tokens(1, 25, 300), {}}, nobody);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("context of 24"), std::string::npos) << error.what();
  }
}

TEST(Transformer, UnknownSiteListsTheSites) {
  const auto network = small_transformer(small_llama());
  try {
    find_site(*network, "blocks.9.mlp");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("blocks.1.mlp.act"), std::string::npos) << error.what();
  }
}

TEST(Transformer, ConfigsThatCannotBeAreRefused) {
  TransformerConfig odd = small_llama();
  odd.head_width = 5;
  EXPECT_THROW(Transformer{odd}, Error);
  TransformerConfig groups = small_llama();
  groups.key_value_heads = 3;
  EXPECT_THROW(Transformer{groups}, Error);
  TransformerConfig none = small_llama();
  none.layers = 0;
  EXPECT_THROW(Transformer{none}, Error);
  TransformerConfig flat = small_llama();
  flat.norm_epsilon = 0;
  EXPECT_THROW(Transformer{flat}, Error);
  TransformerConfig huge = small_llama();  // 2^20 angles for each of 2^20 tokens
  huge.context = huge.head_width = int64_t{1} << 20;
  EXPECT_THROW(check_config(huge), Error);
}

}  // namespace
}  // namespace sememe
