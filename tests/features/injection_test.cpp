#include "sememe/features/injection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sememe/features/capture.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

const char* const kSite = "blocks.0.output";

/// Adds a row to all tokens but the first, and measures the mean norm there.
struct Shift : SiteVisitor {
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (site.name != kSite) return value;
    const int64_t rest = value.size(1) - 1;
    norms.push_back(value[0].narrow(0, 1, rest).norm(2, {-1}));
    torch::Tensor changed = value.clone();
    if (row.defined()) changed.narrow(1, 1, rest).add_(row);
    return changed;
  }
  torch::Tensor row;
  std::vector<torch::Tensor> norms;
};

class Injection : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    text_ = write_text(folder_ / "text.txt");
  }
  InjectionEffect effect(const InjectionOptions& options, std::vector<int64_t> candidates = {}) const {
    if (candidates.empty()) {
      candidates.resize(32);
      std::iota(candidates.begin(), candidates.end(), 0);
    }
    return injection_effect(dictionary_, model_, text_, candidates, options);
  }

  LanguageModel model_ = small_language_model();
  TopKDictionary dictionary_{perfect_weights(16), 32, Json::object()};
  std::filesystem::path text_;
};

TEST_F(Injection, MeasuresTheShiftOfEachPrediction) {
  const torch::NoGradGuard no_autograd;
  const InjectionEffect found = effect({.site = kSite, .norm = 1.5, .latents = 4, .tokens = 60});
  ASSERT_EQ(found.latents.size(), 4u);
  EXPECT_EQ(found.norm, 1.5);
  const TokenBatch batch = *open_contexts(model_, text_, 60).next();
  for (size_t i = 0; i < 4; ++i) {
    double sum = 0.0;
    for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
      const int64_t length = batch.valid[row].sum().item<int64_t>() + 1;
      const torch::Tensor tokens = batch.tokens[row].narrow(0, 0, length).unsqueeze(0);
      Shift shift;
      const torch::Tensor clean = model_.network->forward({tokens, {}}, shift)[0].to(torch::kDouble).log_softmax(-1);
      shift.row = dictionary_.atoms()[found.latents[i]] * 1.5;
      const torch::Tensor moved = model_.network->forward({tokens, {}}, shift)[0].to(torch::kDouble).log_softmax(-1);
      sum += (clean.exp() * (clean - moved)).sum(-1).narrow(0, 1, length - 1).sum().item<double>();
    }
    EXPECT_NEAR(found.kl[i], sum / static_cast<double>(batch.valid_tokens), 1e-5);
    EXPECT_GT(found.kl[i], 1e-5);
  }
}

TEST_F(Injection, TheDefaultNormIsHalfTheMeanNormThere) {
  const torch::NoGradGuard no_autograd;
  const TokenBatch batch = *open_contexts(model_, text_, 60).next();
  Shift shift;
  for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
    const int64_t length = batch.valid[row].sum().item<int64_t>() + 1;
    model_.network->forward({batch.tokens[row].narrow(0, 0, length).unsqueeze(0), {}}, shift);
  }
  EXPECT_NEAR(effect({.site = kSite, .latents = 1, .tokens = 60}).norm, 0.5 * torch::cat(shift.norms).mean().item<double>(), 1e-5);
}

TEST_F(Injection, DrawsDistinctCandidatesBySeed) {
  const std::vector<int64_t> candidates{1, 4, 9, 16, 25};
  const InjectionEffect three = effect({.site = kSite, .latents = 3, .tokens = 60}, candidates);
  ASSERT_EQ(three.latents.size(), 3u);
  EXPECT_TRUE(std::is_sorted(three.latents.begin(), three.latents.end()));
  for (const int64_t latent : three.latents) EXPECT_TRUE(std::binary_search(candidates.begin(), candidates.end(), latent));
  EXPECT_EQ(std::adjacent_find(three.latents.begin(), three.latents.end()), three.latents.end());
  EXPECT_EQ(effect({.site = kSite, .latents = 3, .tokens = 60}, candidates).latents, three.latents);
  EXPECT_EQ(effect({.site = kSite, .latents = 99, .tokens = 60}, candidates).latents, candidates);
}

TEST_F(Injection, WrongRequestsAreRefused) {
  EXPECT_THROW(effect({.site = "nowhere"}), UsageError);
  EXPECT_TRUE(contains(error_from([&] { effect({.site = "blocks.0.mlp.act"}); }), {"width is 16", "20"}));
  EXPECT_TRUE(contains(error_from([&] { injection_effect(dictionary_, model_, text_, {}, {.site = kSite}); }), {"no latent"}));
}

TEST(InjectionEffect, MedianIsTheMiddleOrTheMeanOfTwo) {
  EXPECT_EQ((InjectionEffect{.latents = {}, .kl = {3.0, 1.0, 2.0}}.median()), 2.0);
  EXPECT_EQ((InjectionEffect{.latents = {}, .kl = {4.0, 1.0, 2.0, 3.0}}.median()), 2.5);
}

}  // namespace
}  // namespace sememe
