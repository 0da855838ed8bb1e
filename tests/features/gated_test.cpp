#include "sememe/features/gated.h"

#include <gtest/gtest.h>

#include "sememe/features/gated_dictionary.h"
#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .latents = 40, .seed = 3, .sparsity = 0.7}) {}
};

TEST(GatedLearner, GradientsEqualFiniteDifferences) {
  const Setting setting;
  GatedLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 3; ++step) learner.step({setting.x, {}}, 1e-2);  // magnitudes and gates part
  const StepReport report = learner.compute_gradients({setting.x, {}});
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const Parameters constant = in_double(learner.parameters());
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor p = torch::mm(x - at.at("decoder_bias"), at.at("encoder").t());
    const torch::Tensor gates = (p + at.at("encoder_bias")).relu();
    const torch::Tensor f = (p * at.at("log_magnitude").exp() + at.at("magnitude_bias")).relu() * (gates > 0);
    const torch::Tensor error = x - torch::mm(f, at.at("decoder")) - at.at("decoder_bias");
    const torch::Tensor gate_error = x - torch::mm(gates, constant.at("decoder")) - constant.at("decoder_bias");
    return ((error.square().sum() + gate_error.square().sum() + 0.7 * gates.sum()) / 64.0).item<double>();
  };
  EXPECT_NEAR(report.loss, loss(constant), 1e-5 * report.loss);
  expect_slopes(learner.parameters(), learner.gradients(), loss);
}

TEST(GatedLearner, FindsPlantedDirectionsAndExplainsMoreThanReluAtEqualL0) {
  const auto gated = learn_planted("gated", {.sparsity = 5.0}, 1200, 5e-3)->dictionary(Json::object());
  EXPECT_GT(planted_directions().found_by(*gated), 0.9);
  const HeldOut ours = measure_held_out(*gated);
  const HeldOut relu = measure_held_out(*learn_planted("relu", {.sparsity = 3.0}, 1200, 1e-2)->dictionary(Json::object()));
  RecordProperty("figures", fmt::format("gated l0 {:.2f} explained {:.3f}, relu l0 {:.2f} explained {:.3f}", ours.l0,
                                        ours.explained_variance, relu.l0, relu.explained_variance));
  EXPECT_LT(ours.l0, relu.l0);  // with fewer latents
  EXPECT_GT(ours.explained_variance, relu.explained_variance + 0.01);
}

TEST(GatedLearner, ASparsityThatCannotBeIsRefused) {
  Setting setting;
  setting.options.sparsity = -2.0;
  EXPECT_TRUE(contains(error_from([&] { GatedLearner(setting.options, setting.statistics); }), {"--sparsity -2"}));
}

}  // namespace
}  // namespace sememe
