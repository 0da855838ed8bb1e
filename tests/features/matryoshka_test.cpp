#include "sememe/features/matryoshka.h"

#include <gtest/gtest.h>

#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .latents = 40, .k = 5, .seed = 3, .auxiliary_k = 4, .steps = 20}) {}
};

TEST(MatryoshkaLearner, GradientsEqualFiniteDifferences) {
  Setting setting;
  setting.options.prefixes = {3, 10, 11, 40};
  MatryoshkaLearner learner(setting.options, setting.statistics);
  const StepReport report = learner.compute_gradients({setting.x, {}});
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const double spread = 64.0 * setting.statistics.variance * learner.input_scale() * learner.input_scale();
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor u = (torch::mm(x - at.at("decoder_bias"), at.at("encoder").t()) + at.at("encoder_bias")).relu();
    const torch::Tensor f = u * (u >= std::get<0>(u.flatten().topk(64 * 5)).min());
    double sum = 0.0;
    for (const int64_t prefix : *setting.options.prefixes)
      sum += (x - torch::mm(f.narrow(1, 0, prefix), at.at("decoder").narrow(0, 0, prefix)) - at.at("decoder_bias"))
                 .square().sum().item<double>();
    return sum / spread;
  };
  EXPECT_NEAR(report.loss, loss(in_double(learner.weights().named())), 1e-5 * report.loss);
  expect_slopes(learner.weights().named(), learner.gradients().named(), loss);
}

TEST(MatryoshkaLearner, WithOnePrefixIsBatchTopK) {
  Setting setting;
  setting.options.prefixes = {40};
  MatryoshkaLearner one(setting.options, setting.statistics);
  BatchTopKLearner plain(setting.options, setting.statistics);
  for (int step = 0; step < 5; ++step) {
    one.step({setting.x, {}}, 1e-2);
    plain.step({setting.x, {}}, 1e-2);
  }
  EXPECT_TRUE(torch::allclose(one.weights().decoder, plain.weights().decoder, 1e-4, 1e-5));
}

TEST(MatryoshkaLearner, FirstLatentsDoWithoutTheLater) {
  // What the first 64 of 256 latents explain by themselves, at equal k.
  const auto explained_by_first = [](const char* architecture) {
    const auto dictionary = learn_planted(architecture, {.k = 4}, 800, 5e-3)->dictionary(Json::object());
    const torch::Tensor& x = planted_directions().held_out;
    const SparseCodes all = dictionary->encode(x);
    SparseCodes first = all;
    first.values = all.values * (all.atoms < 64);
    const double error = (x - dictionary->decode(first)).square().sum().item<double>();
    return 1.0 - error / (x - x.mean(0)).square().sum().item<double>();
  };
  EXPECT_GT(explained_by_first("matryoshka"), explained_by_first("batchtopk") + 0.1);
}

TEST(MatryoshkaLearner, FindsMostPlantedDirections) {
  const auto dictionary = learn_planted("matryoshka", {.k = 3}, 1200, 1e-2)->dictionary(Json::object());
  EXPECT_GT(planted_directions().found_by(*dictionary), 0.8);  // the first latents are made for sums of directions
}

TEST(MatryoshkaLearner, HasFivePrefixesByDefaultAndFewerOfFewLatents) {
  Setting setting;
  const auto prefixes = [&](int64_t latents) {
    setting.options.latents = latents;
    return MatryoshkaLearner(setting.options, setting.statistics).prefixes();
  };
  EXPECT_EQ(prefixes(64), (std::vector<int64_t>{4, 8, 16, 32, 64}));
  EXPECT_EQ(prefixes(6), (std::vector<int64_t>{1, 3, 6}));
}

TEST(MatryoshkaLearner, PrefixesThatCannotBeAreRefused) {
  Setting setting;
  for (const std::vector<int64_t>& prefixes : std::vector<std::vector<int64_t>>{{}, {8, 8, 40}, {0, 40}, {8, 4, 40}, {8, 30}, {8, 50}}) {
    setting.options.prefixes = prefixes;
    EXPECT_TRUE(contains(error_from([&] { MatryoshkaLearner(setting.options, setting.statistics); }), {"--prefixes", "40"}));
  }
}

}  // namespace
}  // namespace sememe
