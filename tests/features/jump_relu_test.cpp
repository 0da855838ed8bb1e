#include "sememe/features/jump_relu.h"

#include <gtest/gtest.h>

#include "sememe/features/threshold_dictionary.h"
#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  // Enough rows that some lie near a threshold.
  Setting() : LearnerSetting({.width = 12, .latents = 40, .seed = 3}, 5000) {}
};

/// The derivatives as the paper defines them, in float64; the l0 penalty is a function of L0 whose slope is given.
Parameters straight_through_gradients(const Parameters& at, const torch::Tensor& x, double bandwidth, double l0_slope) {
  const auto rows = static_cast<double>(x.size(0));
  const torch::Tensor centred = x - at.at("decoder_bias"), threshold = at.at("log_threshold").exp();
  const torch::Tensor u = torch::mm(centred, at.at("encoder").t()) + at.at("encoder_bias");
  const torch::Tensor fires = (u > threshold).to(torch::kDouble), f = u * fires;
  const torch::Tensor kernel = ((u - threshold).abs() / bandwidth < 0.5).to(torch::kDouble);
  const torch::Tensor to_output = (torch::mm(f, at.at("decoder")) + at.at("decoder_bias") - x) * (2.0 / rows);
  const torch::Tensor to_codes = torch::mm(to_output, at.at("decoder").t());
  const torch::Tensor to_u = to_codes * fires;
  const torch::Tensor to_threshold =
      (to_codes * (threshold / -bandwidth) * kernel).sum(0) + l0_slope * (kernel.mean(0) / -bandwidth);
  return {{"encoder", torch::mm(to_u.t(), centred)},
          {"encoder_bias", to_u.sum(0)},
          {"decoder", torch::mm(f.t(), to_output)},
          {"decoder_bias", to_output.sum(0) - torch::mv(at.at("encoder").t(), to_u.sum(0))},
          {"log_threshold", to_threshold * threshold}};
}

TEST(JumpReluLearner, GradientsAreThePapersStraightThroughOnes) {
  for (const bool with_target : {true, false}) {
    Setting setting;
    setting.options.sparsity = 0.7;
    if (with_target) setting.options.target_l0 = 3.0;
    JumpReluLearner learner(setting.options, setting.statistics);
    learner.step({setting.x, {}}, 1e-2);
    const StepReport report = learner.compute_gradients({setting.x, {}});
    const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
    const double l0 = report.l0, slope = with_target ? 0.7 * 2.0 * (l0 / 3.0 - 1.0) / 3.0 : 0.7;
    const double penalty = with_target ? 0.7 * (l0 / 3.0 - 1.0) * (l0 / 3.0 - 1.0) : 0.7 * l0;
    EXPECT_NEAR(report.loss, report.fvu * setting.statistics.variance * learner.input_scale()[0].square().item<double>() + penalty,
                1e-4 * report.loss);
    const Parameters wanted = straight_through_gradients(in_double(learner.parameters()), x, learner.bandwidth(), slope);
    for (const auto& [name, gradient] : in_double(learner.gradients())) {
      const double norm = wanted.at(name).norm().item<double>();
      EXPECT_GT(norm, 0.0) << name;
      EXPECT_LT((gradient - wanted.at(name)).norm().item<double>(), 1e-3 * norm) << name;
    }
  }
}

TEST(JumpReluLearner, TanhGradientsEqualFiniteDifferencesWhereTheyExist) {
  Setting setting;
  setting.x = setting.x.narrow(0, 0, 64).contiguous();
  setting.options.penalty = "tanh";
  setting.options.sparsity = 0.7;
  setting.options.dead_after = 64;
  JumpReluLearner learner(setting.options, setting.statistics);
  learner.step({setting.x.narrow(0, 0, 1).expand({64, 12}).contiguous(), {}}, 1e-3);
  const torch::Tensor dead = learner.rows_since_fired() >= 64;
  ASSERT_GT(dead.sum().item<int64_t>(), 3);
  learner.compute_gradients({setting.x, {}});
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor u = torch::mm(x - at.at("decoder_bias"), at.at("encoder").t()) + at.at("encoder_bias");
    const torch::Tensor threshold = at.at("log_threshold").exp(), norms = at.at("decoder").norm(2, {1});
    const torch::Tensor f = u * (u > threshold);
    const torch::Tensor error = x - torch::mm(f, at.at("decoder")) - at.at("decoder_bias");
    const torch::Tensor below = (threshold - u).relu() * norms * dead;
    return ((error.square().sum() + 0.7 * (4.0 * f * norms).tanh().sum() + 3e-6 * below.sum()) / 64.0).item<double>();
  };
  NamedTensors parameters, gradients;  // but the thresholds, whose derivative is straight-through
  for (size_t i = 0; i < 4; ++i) {
    parameters.push_back(learner.parameters()[i]);
    gradients.push_back(learner.gradients()[i]);
  }
  const Parameters thresholds = in_double({learner.parameters()[4]});
  expect_slopes(parameters, gradients, [&](Parameters at) {
    at.insert(thresholds.begin(), thresholds.end());
    return loss(at);
  });
}

TEST(JumpReluLearner, DeadLatentsLowerTheirThresholdWherePenaltyIsTanh) {
  Setting setting;
  setting.x = setting.x.narrow(0, 0, 1).expand({64, 12}).contiguous();
  setting.options.penalty = "tanh";
  setting.options.sparsity = 0.0;
  setting.options.dead_after = 64;
  JumpReluLearner learner(setting.options, setting.statistics);
  learner.step({setting.x, {}}, 0.0);
  learner.compute_gradients({setting.x, {}});
  const torch::Tensor threshold = learner.parameters()[4].second.detach().exp();
  const torch::Tensor centred = setting.x[0] * learner.input_scale() - learner.parameters()[3].second.detach();
  const torch::Tensor u = torch::mv(learner.parameters()[0].second.detach(), centred) + learner.parameters()[1].second.detach();
  // Those near their threshold also have the straight-through derivative.
  const torch::Tensor dead = (learner.rows_since_fired() >= 64) & (threshold - u > learner.bandwidth());
  ASSERT_GT(dead.sum().item<int64_t>(), 3);
  const torch::Tensor norms = learner.parameters()[2].second.detach().norm(2, {1});
  // All rows are one: threshold > u in each, so that the derivative to log threshold is 3e-6 threshold norm.
  const torch::Tensor wanted = (threshold * norms * 3e-6).index({dead});
  EXPECT_LT((learner.gradients()[4].second.index({dead}) - wanted).abs().max().item<double>(), 1e-3 * wanted.max().item<double>());
}

TEST(JumpReluLearner, ReachesItsTargetAndExplainsMoreThanReluAtEqualL0) {
  const HeldOut relu = measure_held_out(*learn_planted("relu", {.sparsity = 3.0}, 1200, 1e-2)->dictionary(Json::object()));
  const auto jump = learn_planted("jumprelu", {.target_l0 = relu.l0}, 1200, 3e-3)->dictionary(Json::object());
  const HeldOut ours = measure_held_out(*jump);
  EXPECT_GT(planted_directions().found_by(*jump), 0.9);
  EXPECT_NEAR(ours.l0, relu.l0, 0.1 * relu.l0);
  EXPECT_GT(ours.explained_variance, relu.explained_variance + 0.01);
}

TEST(JumpReluLearner, OptionsThatCannotBeAreRefusedByName) {
  const auto refused = [](auto change, const std::vector<std::string>& parts) {
    Setting setting;
    change(setting.options);
    const std::string said = error_from([&] { JumpReluLearner(setting.options, setting.statistics); });
    return std::all_of(parts.begin(), parts.end(), [&](const auto& part) { return said.find(part) != std::string::npos; });
  };
  EXPECT_TRUE(refused([](auto& options) { options.penalty = "classic"; }, {"--penalty classic", "tanh"}));
  EXPECT_TRUE(refused([](auto& options) { options.target_l0 = 0.0; }, {"--target-l0 0"}));
  EXPECT_TRUE(refused([](auto& options) { options.target_l0 = 41.0; }, {"--target-l0 41", "40"}));
  EXPECT_TRUE(refused([](auto& options) { options.sparsity = -1.0; }, {"--sparsity -1"}));
  EXPECT_TRUE(refused([](auto& options) { options.penalty = "tanh"; options.target_l0 = 3.0; }, {"--target-l0", "tanh"}));
}

}  // namespace
}  // namespace sememe
