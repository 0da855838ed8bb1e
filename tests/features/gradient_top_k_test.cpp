#include "sememe/features/gradient_top_k.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/features/learner_setting.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .latents = 40, .k = 5, .seed = 3, .auxiliary_k = 4}) {}
};

/// The weights after five steps.
template <class Learner>
AutoencoderWeights trained(const LearnerOptions& options, const Setting& setting, const torch::Tensor& gradients) {
  Learner learner(options, setting.statistics);
  for (int step = 0; step < 5; ++step) learner.step({setting.x, gradients}, 1e-2);
  return learner.weights();
}

bool same(const AutoencoderWeights& a, const AutoencoderWeights& b) {
  return torch::equal(a.encoder, b.encoder) && torch::equal(a.encoder_bias, b.encoder_bias) &&
         torch::equal(a.decoder, b.decoder) && torch::equal(a.decoder_bias, b.decoder_bias);
}

bool same(const SparseCodes& a, const SparseCodes& b) {
  return torch::equal(a.offsets, b.offsets) && torch::equal(a.atoms, b.atoms) && torch::equal(a.values, b.values);
}

/// Four latents along the axes.
AutoencoderWeights axes() {
  AutoencoderWeights weights = AutoencoderWeights::zeros(4, 4);
  weights.encoder.copy_(torch::eye(4));
  weights.decoder.copy_(torch::eye(4));
  return weights;
}

TEST(GradientTopKLearner, BetaOfZeroTrainsAsTopK) {
  Setting setting;
  setting.options.gradient.beta = 0.0;
  const AutoencoderWeights plain = trained<TopKLearner>(setting.options, setting, {});
  EXPECT_TRUE(same(plain, trained<GradientTopKLearner>(setting.options, setting, setting.gradients)));
  setting.options.gradient.beta = 4.0;
  EXPECT_FALSE(same(plain, trained<GradientTopKLearner>(setting.options, setting, setting.gradients)));
}

TEST(GradientTopKLearner, WithoutInfluenceItTrainsAsTopK) {
  Setting setting;
  const AutoencoderWeights plain = trained<TopKLearner>(setting.options, setting, {});
  for (const char* const score : {"additive", "product"})
    for (const char* const scaling : {"batch-mean", "raw"}) {
      setting.options.gradient = {.beta = 2.0, .score = score, .scaling = scaling};
      EXPECT_TRUE(same(plain, trained<GradientTopKLearner>(setting.options, setting, torch::zeros_like(setting.x))))
          << score << " " << scaling;
    }
}

TEST(GradientTopKLearner, BatchMeanScalingTakesTheUnitFromGradients) {
  Setting setting;
  const auto with_unit = [&](double unit) { return trained<GradientTopKLearner>(setting.options, setting, setting.gradients * unit); };
  setting.options.gradient = {.beta = 2.0, .scaling = "batch-mean"};
  EXPECT_TRUE(same(with_unit(1.0), with_unit(1024.0)));
  setting.options.gradient.scaling = "raw";
  EXPECT_FALSE(same(with_unit(1.0), with_unit(1024.0)));
}

TEST(GradientTopKLearner, RefusesRowsWithoutGradients) {
  const Setting setting;
  GradientTopKLearner learner(setting.options, setting.statistics);
  EXPECT_TRUE(contains(error_from([&] { learner.step({setting.x, {}}, 1e-3); }), {"capture with --gradients"}));
}

TEST(GradientTopKLearner, RefusesOptionsThatCannotBe) {
  const auto message = [](GradientSelection selection) {
    Setting setting;
    setting.options.gradient = std::move(selection);
    return error_from([&] { GradientTopKLearner learner(setting.options, setting.statistics); });
  };
  EXPECT_TRUE(contains(message({.beta = -1.0}), {"--beta -1"}));
  EXPECT_TRUE(contains(message({.beta = std::numeric_limits<double>::infinity()}), {"--beta inf"}));
  EXPECT_TRUE(contains(message({.score = "sum"}), {"--score sum", "additive"}));
  EXPECT_TRUE(contains(message({.scaling = "none"}), {"--gradient-scaling none", "batch-mean"}));
}

TEST(GradientTopKDictionary, KeepsTheLargestScoreButTheValueItself) {
  // Latent 1 is smaller than latent 0 but moves the loss, latent 2 does not.
  const GradientTopKDictionary dictionary(axes(), 1, {.beta = 1.0, .score = "additive", .scaling = "raw"}, 1.0, Json::object());
  const torch::Tensor x = torch::tensor({{2.0f, 1.5f, 1.0f, -9.0f}}), g = torch::tensor({{0.0f, -3.0f, 0.0f, 50.0f}});
  const SparseCodes codes = dictionary.encode(x, g);
  EXPECT_TRUE(torch::equal(codes.atoms, torch::tensor({1}, torch::kInt)));
  EXPECT_TRUE(torch::equal(codes.values, torch::tensor({1.5f})));
  EXPECT_EQ(dictionary.encode(x).atoms[0].item<int32_t>(), 0);
}

TEST(GradientTopKDictionary, RowsOfZeroGradientAreSelectedPlainly) {
  for (const char* const score : {"additive", "product"}) {
    const GradientTopKDictionary dictionary(axes(), 2, {.beta = 9.0, .score = score, .scaling = "raw"}, 1.0, Json::object());
    const torch::Tensor x = torch::tensor({{1.0f, 2.0f, 3.0f, 4.0f}, {1.0f, 2.0f, 3.0f, 4.0f}});
    const torch::Tensor g = torch::tensor({{0.0f, 0.0f, 0.0f, 0.0f}, {9.0f, 8.0f, 0.0f, 0.0f}});
    const SparseCodes codes = dictionary.encode(x, g);
    EXPECT_TRUE(torch::equal(codes.atoms, torch::tensor({2, 3, 0, 1}, torch::kInt))) << score;
  }
}

TEST(GradientTopKDictionary, PlainEncodingIgnoresTheSelection) {
  const Setting setting;
  TopKLearner learner(setting.options, setting.statistics);
  const TopKDictionary plain(learner.weights(), setting.options.k, Json::object());
  const GradientTopKDictionary gradient(learner.weights(), setting.options.k, {.beta = 4.0}, 1.0, Json::object());
  EXPECT_TRUE(same(plain.encode(setting.x), gradient.encode(setting.x)));
  EXPECT_FALSE(same(plain.encode(setting.x), gradient.encode(setting.x, setting.gradients)));
  const GradientTopKDictionary without(learner.weights(), setting.options.k, {.beta = 0.0}, 1.0, Json::object());
  EXPECT_TRUE(same(plain.encode(setting.x), without.encode(setting.x, setting.gradients)));
}

TEST(GradientTopKDictionary, BatchMeanScalingDividesByTheMeanOfTraining) {
  const Setting setting;
  const AutoencoderWeights weights = TopKLearner(setting.options, setting.statistics).weights();
  const GradientTopKDictionary scaled(weights, setting.options.k, {.beta = 2.0, .scaling = "batch-mean"}, 0.25, Json::object());
  const GradientTopKDictionary raw(weights, setting.options.k, {.beta = 8.0, .scaling = "raw"}, 0.25, Json::object());
  EXPECT_TRUE(same(scaled.encode(setting.x, setting.gradients), raw.encode(setting.x, setting.gradients)));
}

RC_GTEST_PROP(GradientTopKDictionary, ScoresAsDefined, ()) {
  // Small whole numbers: scores are exact in float32 and ties are common.
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const auto whole = [](at::IntArrayRef shape) { return torch::randint(-2, 3, shape).to(torch::kFloat); };
  const int64_t latents = *rc::gen::inRange<int64_t>(1, 15), width = *rc::gen::inRange<int64_t>(1, 4);
  const int64_t k = *rc::gen::inRange<int64_t>(1, latents + 1);
  const double beta = *rc::gen::element(0.0, 0.5, 1.0, 4.0);
  const bool product = *rc::gen::arbitrary<bool>();
  const AutoencoderWeights weights{whole({latents, width}), whole({latents}), whole({latents, width}), whole({width})};
  const GradientTopKDictionary dictionary(weights, k, {beta, product ? "product" : "additive", "raw"}, 1.0, Json::object());
  const torch::Tensor x = whole({3, width}), gradients = whole({3, width});
  const SparseCodes codes = dictionary.encode(x, gradients);
  for (int64_t row = 0; row < 3; ++row) {
    const torch::Tensor z = (torch::mv(weights.encoder, x[row] - weights.decoder_bias) + weights.encoder_bias).relu();
    const torch::Tensor g = torch::mv(weights.decoder, gradients[row]).abs();
    torch::Tensor score = product ? z * g : z * (1.0 + beta * g);
    if (product && g.max().item<float>() == 0.0f) score = z;
    std::vector<int64_t> order(latents);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return score[a].item<float>() > score[b].item<float>(); });
    order.resize(k);
    std::erase_if(order, [&](int64_t latent) { return score[latent].item<float>() <= 0; });
    std::sort(order.begin(), order.end());
    const int64_t begin = codes.offsets[row].item<int64_t>(), end = codes.offsets[row + 1].item<int64_t>();
    RC_ASSERT(end - begin == static_cast<int64_t>(order.size()));
    for (int64_t entry = begin; entry < end; ++entry) {
      RC_ASSERT(codes.atoms[entry].item<int32_t>() == order[entry - begin]);
      RC_ASSERT(codes.values[entry].item<float>() == z[order[entry - begin]].item<float>());
    }
  }
}

TEST(GradientTopKDictionary, EncodesManyRowsAsItEncodesEach) {
  // 64 MiB of pre-activations are 64 rows here: 150 rows are three parts, each with its own gradients.
  torch::manual_seed(1);
  AutoencoderWeights weights = AutoencoderWeights::zeros(1 << 18, 1);
  weights.encoder.normal_();
  weights.decoder.normal_();
  const GradientTopKDictionary dictionary(weights, 3, {.beta = 1.0, .scaling = "raw"}, 1.0, Json::object());
  const torch::Tensor x = torch::randn({150, 1}), gradients = torch::randn({150, 1});
  const SparseCodes all = dictionary.encode(x, gradients);
  for (const int64_t row : {0, 63, 64, 65, 128, 149}) {
    const SparseCodes one = dictionary.encode(x.narrow(0, row, 1), gradients.narrow(0, row, 1));
    EXPECT_TRUE(torch::equal(all.atoms.narrow(0, all.offsets[row].item<int64_t>(), 3), one.atoms)) << row;
  }
}

TEST(GradientTopKDictionary, WrongGradientsAreRefused) {
  const GradientTopKDictionary dictionary(axes(), 2, {.beta = 1.0}, 1.0, Json::object());
  const torch::Tensor x = torch::ones({3, 4});
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(x, torch::Tensor()); }), {"gradient"}));
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(x, torch::ones({2, 4})); }), {"differ in shape"}));
  torch::Tensor bad = torch::ones({3, 4});
  bad[2][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(x, bad); }), {"row 2", "nan"}));
}

class GradientTopKFolder : public ScratchFolder {
 protected:
  std::string message_with(const char* key, const Json& value) {
    GradientTopKDictionary(axes(), 2, {.beta = 1.0}, 1.0, Json::object()).save(folder_);
    Json config = read_json(folder_ / "config.json");
    config[key] = value;
    write_json(folder_ / "config.json", config);
    return error_from([&] { load_dictionary(folder_); });
  }
};

TEST_F(GradientTopKFolder, LoadingGivesBackTheSelection) {
  const Setting setting;
  GradientTopKLearner learner(setting.options, setting.statistics);
  learner.step({setting.x, setting.gradients}, 1e-2);
  const auto dictionary = learner.dictionary({{"site", "here"}});
  dictionary->save(folder_);
  const auto loaded = load_dictionary(folder_);
  EXPECT_EQ(loaded->architecture(), "gsae");
  EXPECT_EQ(read_json(folder_ / "config.json")["site"], "here");
  EXPECT_TRUE(same(loaded->encode(setting.x, setting.gradients), dictionary->encode(setting.x, setting.gradients)));
  EXPECT_FALSE(same(loaded->encode(setting.x, setting.gradients), loaded->encode(setting.x)));
}

TEST_F(GradientTopKFolder, ARestoredLearnerGoesOnTheSame) {
  const Setting setting;
  GradientTopKLearner first(setting.options, setting.statistics), second(setting.options, setting.statistics);
  for (int step = 0; step < 3; ++step) first.step({setting.x, setting.gradients * (1.0 + step)}, 1e-2);
  save_tensors(folder_ / "state", first.state());
  second.restore(SafetensorsFile(folder_ / "state"));
  first.step({setting.x, setting.gradients}, 1e-2);
  second.step({setting.x, setting.gradients}, 1e-2);
  ASSERT_EQ(first.state().back().first, "influence_mean");
  for (size_t i = 0; i < first.state().size(); ++i) EXPECT_TRUE(torch::equal(first.state()[i].second, second.state()[i].second));
}

TEST_F(GradientTopKFolder, AConfigThatCannotBeIsNamed) {
  EXPECT_TRUE(contains(message_with("beta", -1), {"config.json", "beta"}));
  EXPECT_TRUE(contains(message_with("score", "sum"), {"config.json", "sum"}));
  EXPECT_TRUE(contains(message_with("gradient_scaling", "none"), {"config.json", "none"}));
  EXPECT_TRUE(contains(message_with("influence_mean", Json()), {"config.json", "influence_mean"}));
  EXPECT_TRUE(contains(message_with("k", 5), {"config.json", "k 5"}));
}

}  // namespace
}  // namespace sememe
