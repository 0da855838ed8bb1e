#include "sememe/features/evaluation.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <numeric>

#include "sememe/features/capture.h"
#include "sememe/features/gradient_top_k.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

/// Codes that hold the positive entries of a dense matrix.
SparseCodes sparse(const torch::Tensor& dense) {
  const torch::Tensor places = (dense > 0).nonzero();
  const torch::Tensor counts = (dense > 0).sum(1).cumsum(0);
  return {torch::cat({torch::zeros({1}, torch::kLong), counts}), places.select(1, 1).to(torch::kInt).contiguous(),
          dense.masked_select(dense > 0)};
}

RC_GTEST_PROP(ReconstructionFigures, AreThoseOfTheWholeSetForAnySplit, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const int64_t rows = *rc::gen::inRange<int64_t>(2, 60), latents = *rc::gen::inRange<int64_t>(1, 8), width = 5;
  // Large common offsets must not cost digits.
  const torch::Tensor x = torch::randn({rows, width}) + *rc::gen::element(0.0, 1000.0), output = x + 0.3 * torch::randn({rows, width});
  const torch::Tensor dense = (torch::rand({rows, latents}) - *rc::gen::element(0.2, 0.8, 0.98)).relu();
  ReconstructionFigures figures(latents, width);
  for (int64_t begin = 0; begin < rows;) {
    const int64_t count = std::min(rows - begin, *rc::gen::inRange<int64_t>(1, 20));
    figures.add(x.narrow(0, begin, count), sparse(dense.narrow(0, begin, count)), output.narrow(0, begin, count));
    begin += count;
  }
  figures.add(x.narrow(0, 0, 0), sparse(dense.narrow(0, 0, 0)), output.narrow(0, 0, 0));
  const torch::Tensor exact = x.to(torch::kDouble), firings = (dense > 0).sum(0);
  const double fvu = (exact - output.to(torch::kDouble)).square().sum().item<double>() /
                     (exact - exact.mean(0)).square().sum().item<double>();
  RC_ASSERT(figures.rows() == rows);
  RC_ASSERT(std::abs(figures.fvu() - fvu) < 1e-9 * fvu);
  RC_ASSERT((figures.mean() - exact.mean(0)).abs().max().item<double>() < 1e-9);
  RC_ASSERT(std::abs(figures.l0() - firings.sum().item<double>() / static_cast<double>(rows)) < 1e-12);
  RC_ASSERT(torch::equal(figures.firings(), firings));
  RC_ASSERT(figures.dead() == (firings == 0).sum().item<int64_t>());
  RC_ASSERT(figures.dense() == (firings * 10 > rows).sum().item<int64_t>());
  const torch::Tensor rebuilt = output.to(torch::kDouble), norms = exact.norm(2, {1}), products = (exact * rebuilt).sum(1);
  const auto near = [](double value, const torch::Tensor& wanted) {
    return std::abs(value - wanted.item<double>()) <= 1e-9 * std::max(1.0, std::abs(wanted.item<double>()));
  };
  RC_ASSERT(near(figures.nmse(), ((exact - rebuilt).square().sum(1) / norms.square()).mean()));
  RC_ASSERT(near(figures.cosine(), (products / norms / rebuilt.norm(2, {1})).mean()));
  RC_ASSERT(near(figures.l2_ratio(), (rebuilt.norm(2, {1}) / norms).mean()));
  RC_ASSERT(near(figures.relative_bias().value(), rebuilt.square().sum(1).mean() / products.mean()));
}

TEST(ReconstructionFigures, OfAHalvedRowAreKnown) {
  ReconstructionFigures figures(1, 2);
  const torch::Tensor x = torch::tensor({{3.0f, 4.0f}, {0.0f, 2.0f}});
  figures.add(x, sparse(torch::ones({2, 1})), x / 2);
  EXPECT_DOUBLE_EQ(figures.nmse(), 0.25);
  EXPECT_DOUBLE_EQ(figures.cosine(), 1.0);
  EXPECT_DOUBLE_EQ(figures.l2_ratio(), 0.5);
  EXPECT_DOUBLE_EQ(figures.relative_bias().value(), 0.5);
}

TEST(ReconstructionFigures, RowsOfZerosAreInNoRelativeMean) {
  ReconstructionFigures figures(1, 2);
  const torch::Tensor x = torch::tensor({{0.0f, 0.0f}, {0.0f, 2.0f}, {1.0f, 0.0f}});
  // The first has an error, the last is rebuilt as zero: its cosine counts as 0.
  figures.add(x, sparse(torch::ones({3, 1})), torch::tensor({{1.0f, 0.0f}, {0.0f, 2.0f}, {0.0f, 0.0f}}));
  EXPECT_DOUBLE_EQ(figures.nmse(), 0.5);
  EXPECT_DOUBLE_EQ(figures.cosine(), 0.5);
  EXPECT_DOUBLE_EQ(figures.l2_ratio(), 0.5);
  ReconstructionFigures silent(1, 2);
  silent.add(x, sparse(torch::zeros({3, 1})), torch::zeros({3, 2}));
  EXPECT_FALSE(silent.relative_bias().has_value());
}

TEST(ReconstructionFigures, DensityPercentilesCountTheDead) {
  torch::Tensor dense = torch::zeros({10, 5});
  dense.select(1, 1).narrow(0, 0, 1).fill_(1.0);
  dense.select(1, 2).narrow(0, 0, 2).fill_(1.0);
  dense.select(1, 3).narrow(0, 0, 4).fill_(1.0);
  dense.select(1, 4).fill_(1.0);
  ReconstructionFigures figures(5, 2);
  figures.add(torch::randn({10, 2}), sparse(dense), torch::zeros({10, 2}));
  const double percents[] = {0, 25, 50, 75, 87.5, 100};
  const std::vector<double> wanted{0.0, 0.1, 0.2, 0.4, 0.7, 1.0}, found = figures.density_percentiles(percents);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-12) << percents[i];
}

TEST(ReconstructionFigures, BinLatentsByTheirDensity) {
  // Of 1000 rows latent 0 fires on all, 1 on ten, 2 on one and 3 on none: 10^0, 10^-2, 10^-3.
  torch::Tensor dense = torch::zeros({1000, 4});
  dense.select(1, 0).fill_(1.0);
  dense.select(1, 1).narrow(0, 0, 10).fill_(1.0);
  dense.select(1, 2).narrow(0, 7, 1).fill_(1.0);
  ReconstructionFigures figures(4, 2);
  figures.add(torch::randn({1000, 2}), sparse(dense), torch::zeros({1000, 2}));
  const std::vector<int64_t> bins = figures.density_histogram();
  ASSERT_EQ(bins.size(), 24u);
  EXPECT_EQ(bins[23], 1);
  EXPECT_EQ(bins[12] + bins[15] + bins[16] + bins[11], 2);  // on the border of two bins
  EXPECT_EQ(std::accumulate(bins.begin(), bins.end(), int64_t{0}), 3);
}

/// Puts rows in place at a site, from the second token of each context on or from the first.
struct Replace : SiteVisitor {
  Replace(torch::Tensor row, int64_t first) : row(std::move(row)), first(first) {}
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    if (site.name != "blocks.0.output") return value;
    torch::Tensor changed = value.clone();
    changed.narrow(1, first, value.size(1) - first).copy_(row.expand({1, value.size(1) - first, 16}));
    return changed;
  }
  torch::Tensor row;
  int64_t first;
};

class EvaluationFolder : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    text_ = write_text(folder_ / "text.txt");
    // With logits this small every distribution is near uniform; larger ones tell the ways of replacing apart.
    for (torch::Tensor& parameter : model_.network->parameters()) parameter.data().mul_(3.0);
  }
  Json evaluate(const Dictionary& dictionary) const {
    return evaluate_dictionary(dictionary, model_, text_, {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 60});
  }
  /// Calls work(tokens [1, length], targets [length - 1]) with each context, without padding.
  template <class Work>
  void each_context(Work work) const {
    const torch::NoGradGuard no_autograd;
    TokenContexts contexts = open_contexts(model_, text_, 60);
    while (const auto batch = contexts.next())
      for (int64_t row = 0; row < batch->tokens.size(0); ++row) {
        const int64_t length = batch->valid[row].sum().item<int64_t>() + 1;
        const torch::Tensor tokens = batch->tokens[row].narrow(0, 0, length);
        work(tokens.unsqueeze(0), tokens.narrow(0, 1, length - 1));
      }
  }
  /// Mean cross-entropy with a visitor, and its KL from the clean run.
  std::pair<double, double> by_hand(SiteVisitor& visitor) const {
    double sum = 0.0, kl = 0.0;
    int64_t count = 0;
    each_context([&](const torch::Tensor& tokens, const torch::Tensor& targets) {
      SiteVisitor nothing;
      const auto predict = [&](SiteVisitor& with) {
        return model_.network->forward({tokens, {}}, with)[0].narrow(0, 0, targets.size(0)).to(torch::kDouble).log_softmax(-1);
      };
      const torch::Tensor clean = predict(nothing), changed = predict(visitor);
      sum -= changed.gather(1, targets.unsqueeze(1)).sum().item<double>();
      kl += (clean.exp() * (clean - changed)).sum().item<double>();
      count += targets.size(0);
    });
    return {sum / static_cast<double>(count), kl / static_cast<double>(count)};
  }
  torch::Tensor rows() const {
    capture(model_, text_, {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 60, .half = false}, folder_ / "rows");
    const ActivationStore store = ActivationStore::open(folder_ / "rows");
    return store.read(0, store.rows()).activations.to(torch::kDouble);
  }

  LanguageModel model_ = small_language_model();
  std::filesystem::path text_;
};

TEST_F(EvaluationFolder, APerfectDictionaryLosesNothing) {
  const Json result = evaluate(TopKDictionary(perfect_weights(16), 32, Json::object()));
  EXPECT_NEAR(result["ce_recovered"].get<double>(), 1.0, 1e-6);
  EXPECT_NEAR(result["ce_recovered_mean"].get<double>(), 1.0, 1e-6);
  EXPECT_NEAR(result["ce_dictionary"].get<double>(), result["ce_clean"].get<double>(), 1e-9);
  EXPECT_NEAR(result["kl"].get<double>(), 0.0, 1e-9);
  EXPECT_EQ(result["fvu"].get<double>(), 0.0);
  EXPECT_EQ(result["explained_variance"].get<double>(), 1.0);
  EXPECT_NEAR(result["l0"].get<double>(), 16.0, 1e-9);
  EXPECT_EQ(result["tokens"].get<int64_t>(), rows().size(0));
}

TEST_F(EvaluationFolder, ASilentDictionaryIsZeroAblation) {
  const Json result = evaluate(TopKDictionary(silent_weights(16), 2, Json::object()));
  Replace zero(torch::zeros({16}), 1);
  const auto [cross_entropy, kl] = by_hand(zero);
  EXPECT_NEAR(result["ce_dictionary"].get<double>(), cross_entropy, 1e-5);
  EXPECT_NEAR(result["ce_zero"].get<double>(), cross_entropy, 1e-5);
  EXPECT_NEAR(result["kl"].get<double>(), kl, 1e-5);
  EXPECT_GT(kl, 1e-3);
  EXPECT_NEAR(result["ce_recovered"].get<double>(), 0.0, 1e-9);
  EXPECT_EQ(result["dead"].get<int64_t>(), 4);
  const torch::Tensor x = rows();
  EXPECT_NEAR(result["fvu"].get<double>(), x.square().sum().item<double>() / (x - x.mean(0)).square().sum().item<double>(), 1e-6);
}

TEST_F(EvaluationFolder, TheLeadingEndOfTextIsNeverReplaced) {
  const Json result = evaluate(TopKDictionary(silent_weights(16), 2, Json::object()));
  Replace all(torch::zeros({16}), 0);
  EXPECT_GT(std::abs(result["ce_zero"].get<double>() - by_hand(all).first), 1e-3);
}

TEST_F(EvaluationFolder, CleanAndMeanFiguresFollowTheirDefinitions) {
  const Json result = evaluate(TopKDictionary(silent_weights(16), 2, Json::object()));
  SiteVisitor nothing;
  Replace mean(rows().mean(0).to(torch::kFloat), 1);
  const double clean = by_hand(nothing).first, ablated = by_hand(mean).first;
  EXPECT_NEAR(result["ce_clean"].get<double>(), clean, 1e-5);
  EXPECT_NEAR(result["ce_mean"].get<double>(), ablated, 1e-5);
  EXPECT_GT(std::abs(clean - ablated), 1e-3);
  const double recovered = (ablated - result["ce_dictionary"].get<double>()) / (ablated - clean);
  EXPECT_NEAR(result["ce_recovered_mean"].get<double>(), recovered, 1e-2 * std::abs(recovered));
}

/// A dictionary that is neither perfect nor silent.
AutoencoderWeights random_weights(int64_t latents) {
  torch::manual_seed(5);
  AutoencoderWeights weights = AutoencoderWeights::zeros(latents, 16);
  weights.decoder.copy_(torch::nn::functional::normalize(torch::randn({latents, 16})));
  weights.encoder.copy_(weights.decoder);
  return weights;
}

TEST_F(EvaluationFolder, ScoresFollowTheirDefinitions) {
  const TopKDictionary dictionary(random_weights(64), 4, Json::object());
  const Json result = evaluate(dictionary);
  const auto figure = [&](const char* key) { return result[key].get<double>(); };
  Replace zero(torch::zeros({16}), 1), mean(rows().mean(0).to(torch::kFloat), 1);
  EXPECT_NEAR(figure("kl_zero"), by_hand(zero).second, 1e-5);
  EXPECT_NEAR(figure("kl_mean"), by_hand(mean).second, 1e-5);
  EXPECT_NEAR(figure("kl_score"), (figure("kl_zero") - figure("kl")) / figure("kl_zero"), 1e-12);
  EXPECT_NEAR(figure("kl_score_mean"), (figure("kl_mean") - figure("kl")) / figure("kl_mean"), 1e-12);
  EXPECT_NEAR(figure("delta_ce"), figure("ce_dictionary") - figure("ce_clean"), 1e-12);
  EXPECT_GT(figure("kl_score"), 0.0);
  const torch::Tensor x = rows().to(torch::kFloat);
  ReconstructionFigures figures(64, 16);
  figures.add(x, dictionary.encode(x), dictionary.decode(dictionary.encode(x)));
  EXPECT_NEAR(figure("nmse"), figures.nmse(), 1e-5);
  EXPECT_NEAR(figure("cosine"), figures.cosine(), 1e-5);
  EXPECT_NEAR(figure("l2_ratio"), figures.l2_ratio(), 1e-5);
  EXPECT_NEAR(figure("relative_bias"), *figures.relative_bias(), 1e-5);
  EXPECT_LE(result["density_percentiles"]["5"].get<double>(), result["density_percentiles"]["95"].get<double>());
  EXPECT_TRUE(evaluate(TopKDictionary(silent_weights(16), 2, Json::object()))["relative_bias"].is_null());
}

TEST_F(EvaluationFolder, IntervalsHoldTheirFigureAndShrinkWithMoreText) {
  const TopKDictionary dictionary(random_weights(64), 4, Json::object());
  const auto width_of = [](const Json& result, const std::string& name) {
    const double low = result[name + "_low"].get<double>(), high = result[name + "_high"].get<double>(), value = result[name].get<double>();
    EXPECT_LE(low, value) << name;
    EXPECT_GE(high, value) << name;
    return high - low;
  };
  const Json little = evaluate(dictionary);
  write_text(text_, 240);
  const Json much = evaluate(dictionary);
  EXPECT_GT(much["contexts"].get<int64_t>(), 10 * little["contexts"].get<int64_t>());
  for (const char* const name : {"ce_recovered", "ce_recovered_mean", "kl", "fvu"}) {
    EXPECT_GT(width_of(much, name), 0.0) << name;
    EXPECT_LT(width_of(much, name), 0.5 * width_of(little, name)) << name;
  }
  EXPECT_EQ(evaluate(dictionary), much);
  const Json other_draw = evaluate_dictionary(dictionary, model_, text_, {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 60, .seed = 2});
  EXPECT_NE(other_draw["kl_low"], much["kl_low"]);
  EXPECT_EQ(other_draw["kl"], much["kl"]);
}

TEST_F(EvaluationFolder, IntervalsDoNotDependOnHowContextsAreBatched) {
  const TopKDictionary dictionary(random_weights(64), 4, Json::object());
  // One context more or less in a batch changes its padding, and the order of contexts follows the batches: only the sums must agree.
  const Json small = evaluate(dictionary);
  const Json large = evaluate_dictionary(dictionary, model_, text_, {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 600});
  EXPECT_EQ(small["contexts"], large["contexts"]);
  for (const char* const name : {"ce_recovered", "kl", "fvu", "nmse", "ce_mean", "kl_mean"})
    EXPECT_NEAR(small[name].get<double>(), large[name].get<double>(), 1e-4) << name;
  EXPECT_NEAR(small["fvu_low"].get<double>(), large["fvu_low"].get<double>(), 0.2 * (small["fvu_high"].get<double>() - small["fvu_low"].get<double>()));
}

TEST_F(EvaluationFolder, OneContextGivesNoInterval) {
  write_file(text_, "the cat sat");
  const Json result = evaluate(TopKDictionary(random_weights(64), 4, Json::object()));
  EXPECT_EQ(result["contexts"], 1);
  EXPECT_FALSE(result.contains("kl_low"));
}

TEST_F(EvaluationFolder, GradientSelectionStandsBesideThePlainOne) {
  const AutoencoderWeights weights = random_weights(64);
  const Json plain = evaluate(TopKDictionary(weights, 2, Json::object()));
  EXPECT_FALSE(plain.contains("ce_recovered_gradient"));
  const Json gradient = evaluate(GradientTopKDictionary(weights, 2, {.beta = 100.0}, 1e-3, Json::object()));
  for (const char* const key : {"l0", "fvu", "ce_dictionary", "ce_recovered", "kl", "nmse", "kl_score", "delta_ce"}) {
    EXPECT_NEAR(gradient[key].get<double>(), plain[key].get<double>(), 1e-6) << key;
    EXPECT_TRUE(gradient.contains(std::string(key) + "_gradient")) << key;
  }
  EXPECT_LE(gradient["kl_gradient_low"].get<double>(), gradient["kl_gradient"].get<double>());
  EXPECT_GT(gradient["fvu_gradient"].get<double>(), gradient["fvu"].get<double>() + 1e-3);
  const Json without = evaluate(GradientTopKDictionary(weights, 2, {.beta = 0.0}, 1.0, Json::object()));
  EXPECT_NEAR(without["ce_dictionary_gradient"].get<double>(), without["ce_dictionary"].get<double>(), 1e-6);
}

TEST_F(EvaluationFolder, WrongRequestsAreRefused) {
  const TopKDictionary narrow(silent_weights(5), 2, Json::object()), fits(silent_weights(16), 2, Json::object());
  const auto message = [&](const Dictionary& dictionary, const EvaluationOptions& options) {
    return error_from([&] { evaluate_dictionary(dictionary, model_, text_, options); });
  };
  EXPECT_TRUE(contains(message(narrow, {.site = "blocks.0.output"}), {"width 5", "blocks.0.output", "width 16"}));
  EXPECT_TRUE(contains(message(fits, {.site = "nowhere"}), {"nowhere", "blocks.0.output"}));
  EXPECT_TRUE(contains(message(fits, {.site = "blocks.0.output", .tokens = 0}), {"--tokens 0"}));
}

}  // namespace
}  // namespace sememe
