#include "sememe/inference/sparse_decoder.h"

#include <gtest/gtest.h>

#include "sememe/inference/decoding_quality.h"
#include "tests/formats/error_text.h"
#include "tests/inference/small_gguf.h"

namespace sememe {
namespace {

std::vector<int32_t> some_ids(int64_t count, int32_t first = 3) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((first + 37 * i) % 257));
  return ids;
}

std::vector<std::vector<int32_t>> some_texts(int64_t count, int64_t tokens) {
  std::vector<std::vector<int32_t>> texts;
  for (int64_t i = 0; i < count; ++i) texts.push_back(some_ids(tokens, static_cast<int32_t>(17 * i)));
  return texts;
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

/// Predictors that name the first half of the neurons.
std::shared_ptr<const std::vector<NeuronPredictor>> first_half(const TransformerConfig& config) {
  const std::vector<float> down(config.width), up(config.feed_forward_width);
  std::vector<float> offset(config.feed_forward_width, -1.0f);
  std::fill(offset.begin(), offset.begin() + config.feed_forward_width / 2, 1.0f);
  return std::make_shared<const std::vector<NeuronPredictor>>(config.layers, NeuronPredictor(config.width, 1, down, up, offset));
}

class SparseDecoding : public testing::Test {
 protected:
  SparseDecoding() : file_({.type = GgmlType::kQ4_0, .layers = 3}), engine_(file_.path(), 2) {
    NeuronProfile profile = make_profile(engine_, some_texts(12, 30), {});
    profile.predictors = first_half(engine_.config());
    profile_ = std::make_shared<const NeuronProfile>(std::move(profile));
  }
  SparseDecoder decoder(const std::string& policy, double keep = 0.4) {
    SparsityOptions options;
    options.policy = policy, options.keep = keep, options.layers = LayerRange{0, 1};
    options.base = std::min(options.base, keep), options.loaded = std::max(options.loaded, keep);
    return SparseDecoder(engine_, options, profile_);
  }
  /// Logits of a prompt of 20 and of 9 tokens behind it, given in pieces.
  std::pair<std::vector<float>, std::vector<float>> logits(SparseDecoder& decoder, const std::vector<int64_t>& pieces = {9}) {
    TokenCache cache(engine_.config());
    const std::vector<int32_t> ids = some_ids(29);
    const TokenRun prompt{std::span(ids).first(20), &cache};
    std::pair<std::vector<float>, std::vector<float>> found{copy(decoder.read({&prompt, 1})), {}};
    int64_t at = 20;
    for (const int64_t piece : pieces) {
      const TokenRun run{std::span(ids).subspan(at, piece), &cache};
      const std::vector<float> more = copy(decoder.decode({&run, 1}, LogitsOf::kAllTokens));
      found.second.insert(found.second.end(), more.begin(), more.end());
      at += piece;
    }
    return found;
  }

  SmallGgufFile file_;
  QuantizedTransformer engine_;
  std::shared_ptr<const NeuronProfile> profile_;
};

TEST_F(SparseDecoding, EveryPolicyReadsPromptsWithAllNeuronsAndLeavesSomeOutBehindThem) {
  SparseDecoder dense = decoder("dense");
  const auto [prompt, rest] = logits(dense);
  for (const SparsePolicyEntry& entry : sparse_policies()) {
    if (entry.policy == SparsePolicy::kDense || entry.needs_relu) continue;
    SCOPED_TRACE(entry.name);
    SparseDecoder sparse = decoder(std::string(entry.name));
    const auto [same, other] = logits(sparse);
    EXPECT_EQ(same, prompt);
    EXPECT_NE(other, rest);
    EXPECT_EQ(sparse.exception(), "");
    EXPECT_EQ(sparse.subset() != nullptr, entry.one_set);
    if (entry.one_set) {
      EXPECT_NEAR(static_cast<double>(sparse.subset()->sets()[0]->size()), 0.4 * 256, 1);
      EXPECT_FALSE(sparse.subset()->sets()[2]) << "a layer outside the range";
    }
  }
}

TEST_F(SparseDecoding, TokensOneByOneGiveTheBitsOfAllAtOnce) {
  for (const SparsePolicyEntry& entry : sparse_policies()) {
    if (entry.needs_relu) continue;
    SCOPED_TRACE(entry.name);
    SparseDecoder sparse = decoder(std::string(entry.name));
    const auto at_once = logits(sparse).second, one_by_one = logits(sparse, std::vector<int64_t>(9, 1)).second;
    EXPECT_EQ(at_once, one_by_one);
  }
}

TEST_F(SparseDecoding, ToKeepAllIsToDecodeDensely) {
  SparseDecoder dense = decoder("dense");
  const auto wanted = logits(dense);
  for (const char* policy : {"static", "random", "magnitude", "oracle", "cats", "teal", "dejavu"}) {
    SparseDecoder sparse = decoder(policy, 1.0);
    EXPECT_EQ(logits(sparse), wanted) << policy;
  }
}

TEST_F(SparseDecoding, StabilityKeepsThePromptsOwnCore) {
  SparseDecoder sparse = decoder("coreinfer-stability");
  logits(sparse);
  CoreNeurons core(engine_.config(), {}, {0, 1}, engine_.threads());
  TokenCache cache(engine_.config());
  const std::vector<int32_t> ids = some_ids(20);
  const TokenRun prompt{ids, &cache};
  engine_.forward({&prompt, 1}, LogitsOf::kLastTokens, {.inputs = &core});
  EXPECT_EQ(sparse.subset()->sets(), core.sets(0.4));
}

TEST_F(SparseDecoding, EachPromptHasItsOwnCore) {
  SparseDecoder sparse = decoder("coreinfer-stability");
  const auto first = logits(sparse);
  const NeuronSets sets = sparse.subset()->sets();
  TokenCache cache(engine_.config());
  const std::vector<int32_t> other = some_ids(20, 101);
  const TokenRun prompt{other, &cache};
  sparse.read({&prompt, 1});
  EXPECT_NE(sparse.subset()->sets(), sets);
  EXPECT_EQ(logits(sparse), first);
}

TEST_F(SparseDecoding, PartInferKeepsItsBaseAndStaysWithinWhatIsLoaded) {
  SparseDecoder sparse = decoder("partinfer");
  logits(sparse);
  const std::vector<int32_t>& set = *sparse.subset()->sets()[1];
  const std::vector<int32_t> important = profile_->by_importance(1);
  const auto kept = [&](int32_t neuron) { return std::binary_search(set.begin(), set.end(), neuron); };
  for (int64_t i = 0; i < kept_of(0.3, 256); ++i) EXPECT_TRUE(kept(important[i])) << i;
  for (int64_t i = kept_of(0.7, 256); i < 256; ++i) EXPECT_FALSE(kept(important[i])) << i;
}

TEST_F(SparseDecoding, AShortPromptKeepsTheProfilesNeuronsOrAll) {
  const std::vector<int32_t> ids = some_ids(6);
  for (const bool with_profile : {true, false}) {
    SparsityOptions options;
    options.policy = "coreinfer-stability", options.layers = LayerRange{0, 1};
    SparseDecoder sparse(engine_, options, with_profile ? profile_ : nullptr);
    TokenCache cache(engine_.config());
    const TokenRun prompt{std::span(ids).first(5), &cache}, next{std::span(ids).subspan(5), &cache};
    sparse.read({&prompt, 1});
    EXPECT_TRUE(contains(sparse.exception(), {"5 tokens", with_profile ? "profile" : "all"}));
    EXPECT_EQ(sparse.subset() != nullptr, with_profile);
    const std::vector<float> found = copy(sparse.decode({&next, 1}));
    if (!with_profile) {
      cache.set_tokens(5);
      EXPECT_EQ(found, copy(engine_.forward({&next, 1})));
    }
  }
}

TEST_F(SparseDecoding, ASetIsChosenAnewByWhatWasDecoded) {
  SparsityOptions options;
  options.policy = "coreinfer-stability", options.layers = LayerRange{0, 1}, options.refresh = 8;
  SparseDecoder sparse(engine_, options, nullptr);
  TokenCache cache(engine_.config());
  const std::vector<int32_t> ids = some_ids(20), more = some_ids(9, 120);
  const TokenRun prompt{ids, &cache};
  sparse.read({&prompt, 1});
  const NeuronSets before = sparse.subset()->sets();
  for (size_t i = 0; i < more.size(); ++i) {
    const TokenRun run{std::span(more).subspan(i, 1), &cache};
    if (i == 8) {
      EXPECT_EQ(sparse.subset()->sets(), before);
    }
    sparse.decode({&run, 1});
  }
  EXPECT_NE(sparse.subset()->sets(), before);
  EXPECT_EQ(cache.tokens(), 29);
  // As if the prompt had gone on to there.
  CoreNeurons core(engine_.config(), {}, {0, 1}, engine_.threads());
  TokenCache fresh(engine_.config());
  const TokenRun first{ids, &fresh}, second{std::span(more).first(8), &fresh};
  engine_.forward({&first, 1}, LogitsOf::kLastTokens, {.inputs = &core});
  engine_.forward({&second, 1}, LogitsOf::kLastTokens, {.inputs = &core});
  EXPECT_EQ(sparse.subset()->sets(), core.sets(0.4));
}

TEST_F(SparseDecoding, WhatCannotBeIsRefusedByName) {
  const auto message = [&](const SparsityOptions& options, bool with_profile = false) {
    return error_from([&] { SparseDecoder(engine_, options, with_profile ? profile_ : nullptr); });
  };
  EXPECT_TRUE(contains(message({.policy = "coreinfer"}), {"\"coreinfer\"", "coreinfer-stability", "oracle"}));
  EXPECT_TRUE(contains(message({.policy = "cats"}), {"cats", "model profile"}));
  EXPECT_TRUE(contains(message({.policy = "powerinfer"}, true), {"powerinfer", "ReLU"}));
  EXPECT_TRUE(contains(message({.policy = "random", .keep = 0}), {"0"}));
  EXPECT_TRUE(contains(message({.policy = "random", .layers = LayerRange{1, 3}}), {"1 to 3", "0 to 2"}));
  EXPECT_TRUE(contains(message({.policy = "partinfer", .keep = 0.2}, true), {"base", "0.3", "0.2"}));
  EXPECT_TRUE(contains(message({.policy = "coreinfer-stability", .refresh = -1}), {"negative"}));
}

TEST_F(SparseDecoding, QualityOfKeepingAllIsThatOfDecodingDensely) {
  const std::vector<std::vector<int32_t>> texts = some_texts(3, 40);
  SparseDecoder all = decoder("oracle", 1.0), half = decoder("oracle", 0.5), few = decoder("oracle", 0.05);
  SparseDecoder* const decoders[] = {&all, &half, &few};
  const std::vector<DecodingQuality> qualities = measure_decoding(engine_, decoders, texts, 20);
  EXPECT_EQ(qualities[0].tokens, 3 * 19);
  EXPECT_EQ(qualities[0].nats, qualities[0].dense_nats);
  EXPECT_NEAR(DecodingQuality::mean(qualities[0].kl), 0.0, 1e-12);
  EXPECT_EQ(DecodingQuality::mean(qualities[0].agreement), 1.0);
  EXPECT_NEAR(qualities[1].kept, 0.5, 0.01);
  EXPECT_GT(DecodingQuality::mean(qualities[1].kl), 0.0);
  EXPECT_GT(DecodingQuality::mean(qualities[2].kl), DecodingQuality::mean(qualities[1].kl));
  EXPECT_EQ(qualities[1].dense_nats, qualities[0].dense_nats);
  // Against the definition.
  TokenCache cache(engine_.config());
  const TokenRun run{std::span(texts[0]).first(39), &cache};
  const std::span<const float> logits = engine_.forward({&run, 1}, LogitsOf::kAllTokens);
  double nats = 0;
  for (int64_t t = 20; t < 39; ++t) {
    double sum = 0;
    for (int64_t i = 0; i < 257; ++i) sum += std::exp(static_cast<double>(logits[t * 257 + i]));
    nats += std::log(sum) - logits[t * 257 + texts[0][t + 1]];
  }
  EXPECT_NEAR(qualities[0].dense_nats[0], nats / 19, 1e-5);
  EXPECT_TRUE(contains(error_from([&] { measure_decoding(engine_, decoders, texts, 39); }), {"40 tokens", "39"}));
}

}  // namespace
}  // namespace sememe
