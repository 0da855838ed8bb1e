#include "sememe/features/relu.h"

#include <gtest/gtest.h>

#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .latents = 40, .seed = 3, .dead_after = 100, .sparsity = 0.7}) {}
};

TEST(ReluLearner, GradientsEqualFiniteDifferences) {
  for (const char* const penalty : {"decoder-norm", "classic"}) {
    Setting setting;
    setting.options.penalty = penalty;
    ReluLearner learner(setting.options, setting.statistics);
    learner.step({setting.x, {}}, 1e-2);
    const StepReport report = learner.compute_gradients({setting.x, {}});
    const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
    const auto loss = [&](const Parameters& at) {
      const torch::Tensor f = (torch::mm(x - at.at("decoder_bias"), at.at("encoder").t()) + at.at("encoder_bias")).relu();
      const torch::Tensor error = x - torch::mm(f, at.at("decoder")) - at.at("decoder_bias");
      const torch::Tensor sizes = std::string(penalty) == "classic" ? f : f * at.at("decoder").norm(2, {1});
      return ((error.square().sum() + 0.7 * sizes.sum()) / 64.0).item<double>();
    };
    EXPECT_NEAR(report.loss, loss(in_double(learner.parameters())), 1e-5 * report.loss) << penalty;
    expect_slopes(learner.parameters(), learner.gradients(), loss);
  }
}

TEST(ReluLearner, KeepsAtomsAtUnitNormWherePenaltyIsClassic) {
  for (const bool classic : {true, false}) {
    Setting setting;
    setting.options.penalty = classic ? "classic" : "decoder-norm";
    ReluLearner learner(setting.options, setting.statistics);
    for (int step = 0; step < 20; ++step) learner.step({setting.x, {}}, 0.05);
    const double off = (learner.parameters()[2].second.norm(2, {1}) - 1.0).abs().max().item<double>();
    EXPECT_EQ(off < 1e-5, classic) << off;
  }
}

TEST(ReluLearner, BeginsDeadLatentsAnewWherePenaltyIsClassic) {
  Setting setting;
  setting.options.penalty = "classic";
  setting.options.steps = 80;  // resampling at steps 10, 20, 30 and 40
  setting.options.dead_after = 500;
  setting.options.sparsity = 30.0;  // silences nearly all
  ReluLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 29; ++step) learner.step({setting.x, {}}, 0.05);
  const torch::Tensor dead = (learner.rows_since_fired() >= 500 - 64).clone();
  ASSERT_GT(dead.sum().item<int64_t>(), 5);
  EXPECT_EQ(learner.step({setting.x, {}}, 0.05).dead, 0);
  const torch::Tensor begun = learner.rows_since_fired() == 0;
  EXPECT_TRUE((begun | dead.logical_not()).all().item<bool>());
  // They point at inputs, and their encoder along them.
  const torch::Tensor centred = torch::nn::functional::normalize(setting.x * learner.input_scale() - learner.parameters()[3].second.detach());
  const torch::Tensor latents = dead.nonzero().squeeze(1);
  const torch::Tensor atoms = learner.parameters()[2].second.detach().index_select(0, latents);
  const torch::Tensor nearest = std::get<0>(torch::mm(atoms, centred.t()).max(1));
  EXPECT_GT(nearest.min().item<double>(), 1.0 - 1e-5);
  const torch::Tensor encoder = torch::nn::functional::normalize(learner.parameters()[0].second.detach().index_select(0, latents));
  EXPECT_LT((encoder - atoms).abs().max().item<double>(), 1e-5);
  EXPECT_EQ(learner.parameters()[1].second.detach().index_select(0, latents).abs().max().item<double>(), 0.0);
}

TEST(ReluLearner, FindsPlantedDirections) {
  for (const char* const penalty : {"decoder-norm", "classic"}) {
    const auto dictionary = learn_planted("relu", {.penalty = penalty}, 1200, 3e-3)->dictionary(Json::object());
    EXPECT_GT(planted_directions().found_by(*dictionary), 0.9) << penalty;
  }
}

TEST(ReluLearner, OptionsThatCannotBeAreRefusedByName) {
  Setting setting;
  setting.options.penalty = "l0";
  EXPECT_TRUE(contains(error_from([&] { ReluLearner(setting.options, setting.statistics); }), {"--penalty l0", "classic"}));
  setting.options.penalty = "classic";
  setting.options.sparsity = -1.0;
  EXPECT_TRUE(contains(error_from([&] { ReluLearner(setting.options, setting.statistics); }), {"--sparsity -1"}));
}

}  // namespace
}  // namespace sememe
