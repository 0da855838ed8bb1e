#include "sememe/language/quantized_network.h"

#include <gtest/gtest.h>

#include "sememe/base/error.h"
#include "sememe/language/language_model.h"
#include "tests/formats/error_text.h"
#include "tests/inference/small_gguf.h"

namespace sememe {
namespace {

torch::Tensor some_tokens(int64_t batch, int64_t tokens) {
  return (torch::arange(batch * tokens).view({batch, tokens}) * 37 + 5).remainder(257);
}

struct Recorder : SiteVisitor {
  std::vector<std::pair<std::string, torch::Tensor>> seen;
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    seen.emplace_back(site.name, value);
    return value;
  }
};

double relative_difference(const torch::Tensor& found, const torch::Tensor& wanted) {
  return ((found - wanted).norm() / wanted.norm()).item<double>();
}

TEST(QuantizedNetwork, EverySiteIsThatOfFloat32UpToWhatTheTypeCosts) {
  torch::NoGradGuard no_grad;
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16, GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                              GgmlType::kQ8_0, GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kQ8_K}) {
    const SmallGgufFile file({.type = type, .tied_head = type != GgmlType::kQ4_K});
    const LanguageModel exact = LanguageModel::load(file.path()), engine = LanguageModel::load(file.path(), Precision::kFile);
    const torch::Tensor tokens = some_tokens(2, 20);
    Recorder wanted, found;
    const torch::Tensor logits = exact.network->forward({tokens, {}}, wanted);
    const torch::Tensor engine_logits = engine.network->forward({tokens, {}}, found);
    const bool floats = block_layout(type).weights == 1 || type == GgmlType::kQ8_K;
    const double bound = floats ? 5e-3 : 0.04;  // keys and values are float16; activations are 8 bits where weights are in blocks
    ASSERT_EQ(found.seen.size(), wanted.seen.size());
    for (size_t i = 0; i < found.seen.size(); ++i) {
      EXPECT_EQ(found.seen[i].first, wanted.seen[i].first);
      ASSERT_EQ(found.seen[i].second.sizes(), wanted.seen[i].second.sizes());
      EXPECT_LT(relative_difference(found.seen[i].second, wanted.seen[i].second), bound) << block_layout(type).name << " " << found.seen[i].first;
    }
    EXPECT_LT(relative_difference(engine_logits, logits), bound) << block_layout(type).name;
  }
}

TEST(QuantizedNetwork, CachedStepsEqualTheWholePass) {
  torch::NoGradGuard no_grad;
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  const LanguageModel model = LanguageModel::load(file.path(), Precision::kFile);
  const torch::Tensor tokens = some_tokens(2, 12);
  NoVisitor nobody;
  const torch::Tensor whole = model.network->forward({tokens, {}}, nobody);
  KeyValueCache cache;
  int64_t begin = 0;
  for (const int64_t length : {5, 1, 1, 5}) {
    const torch::Tensor logits = model.network->forward({tokens.narrow(1, begin, length), {}}, nobody, cache);
    begin += length;
    EXPECT_TRUE(logits.equal(whole.narrow(1, begin - 1, 1))) << begin;
  }
  EXPECT_EQ(cache.tokens, 12);
  EXPECT_TRUE(model.network->forward({tokens, {}}, nobody).equal(whole)) << "a pass without a cache leaves nothing behind";
}

TEST(QuantizedNetwork, GeneratesAsFloat32DoesOfFloats) {
  const SmallGgufFile file({.type = GgmlType::kF32});
  SiteVisitor nobody;
  const GenerateOptions options{.tokens = 20, .temperature = 0};
  const std::string wanted = generate(LanguageModel::load(file.path()), "some text", options, nobody);
  EXPECT_EQ(generate(LanguageModel::load(file.path(), Precision::kFile), "some text", options, nobody), wanted);
}

TEST(QuantizedNetwork, AVisitorIsAskedAtEachTokenAndMayReplace) {
  struct Shift : SiteVisitor {
    int64_t rows = 0;
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      if (!wants(site)) return value;
      rows += value.size(0) * value.size(1);
      return value + 2;
    }
    bool wants(const Site& site) const override { return site.name == "blocks.0.output"; }
  };
  torch::NoGradGuard no_grad;
  const SmallGgufFile file({.type = GgmlType::kF32});
  const LanguageModel exact = LanguageModel::load(file.path()), engine = LanguageModel::load(file.path(), Precision::kFile);
  Shift first, second;
  const torch::Tensor tokens = some_tokens(1, 6);
  EXPECT_LT(relative_difference(engine.network->forward({tokens, {}}, second), exact.network->forward({tokens, {}}, first)), 1e-3);
  EXPECT_EQ(second.rows, 6);
  Shift counted;
  const std::string text = generate(engine, "abc", {.tokens = 7, .temperature = 0}, counted);
  EXPECT_GE(counted.rows, 3 + static_cast<int64_t>(text.size()) - 1);  // the prompt, all new tokens but the last
}

TEST(QuantizedNetwork, StandingVisitorsActToo) {
  struct Zero : SiteVisitor {
    torch::Tensor visit(const Site& site, torch::Tensor value) override { return site.name == "blocks.1.mlp" ? torch::zeros_like(value) : value; }
  };
  torch::NoGradGuard no_grad;
  const SmallGgufFile file({.type = GgmlType::kQ8_0});
  const LanguageModel engine = LanguageModel::load(file.path(), Precision::kFile);
  engine.network->add_visitor(std::make_shared<Zero>());
  Recorder recorder;
  engine.network->forward({some_tokens(1, 5), {}}, recorder);
  EXPECT_EQ(recorder.seen[9].first, "blocks.1.mlp");
  EXPECT_EQ(recorder.seen[9].second.abs().max().item<float>(), 0.0f);
  EXPECT_TRUE(recorder.seen[10].second.equal(recorder.seen[5].second + recorder.seen[6].second));
}

TEST(QuantizedNetwork, HasTheHeadAndNormOfFloat32) {
  torch::NoGradGuard no_grad;
  const SmallGgufFile file({.type = GgmlType::kQ6_K, .tied_head = false});
  const LanguageModel exact = LanguageModel::load(file.path()), engine = LanguageModel::load(file.path(), Precision::kFile);
  EXPECT_TRUE(engine.network->head().equal(exact.network->head()));
  const torch::Tensor rows = torch::randn({3, 256});
  EXPECT_TRUE(engine.network->final_norm(rows).allclose(exact.network->final_norm(rows), 1e-5, 1e-6));
}

TEST(QuantizedNetwork, WhatItCannotDoIsAnErrorThatSaysSo) {
  const SmallGgufFile file({.type = GgmlType::kQ8_0});
  const LanguageModel engine = LanguageModel::load(file.path(), Precision::kFile);
  EXPECT_FALSE(engine.network->has_gradients());
  EXPECT_TRUE(contains(error_from([&] { engine.save(std::filesystem::temp_directory_path() / "never"); }), {"model.gguf", "cannot be saved"}));
  NoVisitor nobody;
  EXPECT_TRUE(contains(error_from([&] { engine.network->forward({torch::zeros({1, 3}), {}}, nobody); }), {"int64"}));
}

TEST(QuantizedNetwork, DecodesSparselyBehindThePrompt) {
  torch::NoGradGuard no_grad;
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  const LanguageModel dense = LanguageModel::load(file.path(), Precision::kFile), sparse = LanguageModel::load(file.path(), Precision::kFile);
  auto& network = dynamic_cast<QuantizedNetwork&>(*sparse.network);
  SparsityOptions options;
  options.policy = "coreinfer-stability", options.layers = LayerRange{0, 1};
  network.decode_sparsely(options, nullptr);
  const torch::Tensor tokens = some_tokens(1, 12);
  NoVisitor nobody;
  EXPECT_TRUE(network.forward({tokens, {}}, nobody).equal(dense.network->forward({tokens, {}}, nobody))) << "whole texts use all neurons";
  KeyValueCache first, second, wanted;
  const torch::Tensor prompt = tokens.narrow(1, 0, 8), next = tokens.narrow(1, 8, 1);
  EXPECT_TRUE(network.forward({prompt, {}}, nobody, first).equal(dense.network->forward({prompt, {}}, nobody, wanted)));
  const torch::Tensor found = network.forward({next, {}}, nobody, first);
  EXPECT_FALSE(found.equal(dense.network->forward({next, {}}, nobody, wanted)));
  // The same through a visitor, which sees the neurons that take part and zeros.
  struct Act : SiteVisitor {
    torch::Tensor seen;
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      if (site.name == "blocks.1.mlp.act") seen = value.clone();
      return value;
    }
    bool wants(const Site& site) const override { return site.name == "blocks.1.mlp.act"; }
  } act;
  network.forward({prompt, {}}, nobody, second);
  EXPECT_TRUE(network.forward({next, {}}, act, second).equal(found));
  EXPECT_EQ(act.seen.count_nonzero().item<int64_t>(), static_cast<int64_t>(network.sparse_decoder()->subset()->sets()[1]->size()));
  EXPECT_TRUE(contains(error_from([&] { network.forward({next, {}}, nobody, first); }), {"another text"}));
}

TEST(QuantizedNetwork, ManyPromptsAreContinuedAsEachWouldBeAlone) {
  const SmallGgufFile file({.type = GgmlType::kQ4_0});
  const LanguageModel engine = LanguageModel::load(file.path(), Precision::kFile);
  const std::vector<std::string> prompts = {"some text", "a", "another one that is longer", "", std::string(60, 'x')};
  GenerateOptions options{.tokens = 12, .temperature = 0};
  SiteVisitor nobody;
  for (const bool stops : {false, true}) {
    std::vector<std::string> wanted;
    if (stops) options.stops = {generate(engine, prompts[0], {.tokens = 12, .temperature = 0}, nobody).substr(3, 2)};
    for (const std::string& prompt : prompts) wanted.push_back(generate(engine, prompt, options, nobody));
    for (const int64_t at_once : {1, 3}) {
      std::vector<std::string> found(prompts.size(), "none");
      generate_many(engine, prompts, options, at_once, [&](size_t i, const std::string& text) { found[i] = text; });
      EXPECT_EQ(found, wanted);
    }
  }
  EXPECT_TRUE(contains(error_from([&] { generate_many(engine, {"a", std::string(65, 'x')}, options, 2, {}); }), {"prompt 2", "65 tokens"}));
  const LanguageModel exact = LanguageModel::load(file.path());
  EXPECT_TRUE(contains(error_from([&] { generate_many(exact, prompts, options, 2, {}); }), {"--float32"}));
}

}  // namespace
}  // namespace sememe
