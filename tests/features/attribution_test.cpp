#include "sememe/features/attribution.h"

#include <gtest/gtest.h>

#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .latents = 40, .seed = 3, .sparsity = 0.7, .attribution = 0.3, .unexplained = 0.2}) {}
};

TEST(AttributionLearner, GradientsEqualFiniteDifferences) {
  const Setting setting;
  AttributionLearner learner(setting.options, setting.statistics);
  learner.step({setting.x, setting.gradients}, 1e-2);
  const StepReport report = learner.compute_gradients({setting.x, setting.gradients});
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const torch::Tensor to_loss = setting.gradients.to(torch::kDouble) / setting.gradients.norm(2, {1}).mean().item<double>();
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor f = (torch::mm(x - at.at("decoder_bias"), at.at("encoder").t()) + at.at("encoder_bias")).relu();
    const torch::Tensor error = x - torch::mm(f, at.at("decoder")) - at.at("decoder_bias");
    double sum = (error.square().sum() + 0.7 * (f * at.at("decoder").norm(2, {1})).sum()).item<double>();
    sum += 0.3 * (f * torch::mm(to_loss, at.at("decoder").t())).abs().sum().item<double>();
    sum += 0.2 * (error * to_loss).sum(1).abs().sum().item<double>();
    return sum / 64.0;
  };
  EXPECT_NEAR(report.loss, loss(in_double(learner.parameters())), 1e-5 * report.loss);
  expect_slopes(learner.parameters(), learner.gradients(), loss);
}

TEST(AttributionLearner, WithoutItsTermsIsRelu) {
  Setting setting;
  setting.options.attribution = setting.options.unexplained = 0.0;
  AttributionLearner learner(setting.options, setting.statistics);
  ReluLearner relu(setting.options, setting.statistics);
  for (int step = 0; step < 3; ++step) {
    learner.step({setting.x, setting.gradients}, 1e-2);
    relu.step({setting.x, {}}, 1e-2);
  }
  EXPECT_TRUE(torch::allclose(learner.parameters()[2].second, relu.parameters()[2].second, 1e-4, 1e-5));
}

TEST(AttributionLearner, FindsPlantedDirections) {
  const auto learner = learn_planted("attribution", {.attribution = 0.01, .unexplained = 0.01}, 1200, 3e-3);
  EXPECT_GT(planted_directions().found_by(*learner->dictionary(Json::object())), 0.9);
}

TEST(AttributionLearner, NeedsGradientsAndPossibleWeights) {
  Setting setting;
  AttributionLearner learner(setting.options, setting.statistics);
  EXPECT_TRUE(contains(error_from([&] { learner.step({setting.x, {}}, 1e-2); }), {"--gradients"}));
  setting.options.attribution = -1.0;
  EXPECT_TRUE(contains(error_from([&] { AttributionLearner(setting.options, setting.statistics); }), {"--attribution -1"}));
  setting.options.attribution = 1.0;
  setting.options.unexplained = -1.0;
  EXPECT_TRUE(contains(error_from([&] { AttributionLearner(setting.options, setting.statistics); }), {"--unexplained -1"}));
}

}  // namespace
}  // namespace sememe
