#include "sememe/features/crosscoder.h"

#include <gtest/gtest.h>

#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .parts = {5, 7}, .latents = 40, .seed = 3, .sparsity = 0.7}) {
    x.narrow(1, 0, 5).mul_(100.0);  // sites may differ in size
    statistics = measure_activations(x, options.parts);
  }
};

TEST(CrosscoderLearner, GradientsEqualFiniteDifferences) {
  const Setting setting;
  CrosscoderLearner learner(setting.options, setting.statistics);
  learner.step({setting.x, {}}, 1e-2);
  const StepReport report = learner.compute_gradients({setting.x, {}});
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor decoder = at.at("decoder");
    const torch::Tensor f = (torch::mm(x - at.at("decoder_bias"), at.at("encoder").t()) + at.at("encoder_bias")).relu();
    const torch::Tensor error = x - torch::mm(f, decoder) - at.at("decoder_bias");
    const torch::Tensor sizes = decoder.narrow(1, 0, 5).norm(2, {1}) + decoder.narrow(1, 5, 7).norm(2, {1});
    return (error.square().sum() + 0.7 * (f * sizes).sum()).item<double>() / 64.0;
  };
  EXPECT_NEAR(report.loss, loss(in_double(learner.parameters())), 1e-5 * report.loss);
  expect_slopes(learner.parameters(), learner.gradients(), loss);
}

TEST(CrosscoderLearner, SitesWeighAlikeWhateverTheirSize) {
  const Setting setting;
  CrosscoderLearner learner(setting.options, setting.statistics);
  const torch::Tensor scaled = setting.x * learner.input_scale();
  EXPECT_NEAR(scaled.narrow(1, 0, 5).norm(2, {1}).mean().item<double>(), std::sqrt(5.0), 1e-3);
  EXPECT_NEAR(scaled.narrow(1, 5, 7).norm(2, {1}).mean().item<double>(), std::sqrt(7.0), 1e-3);
}

TEST(CrosscoderLearner, WhatIsSavedReconstructsAsTrainingDid) {
  Setting setting;
  CrosscoderLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 100; ++step) learner.step({setting.x, {}}, 1e-2);
  const auto dictionary = learner.dictionary(Json::object());
  const torch::Tensor error = (setting.x - dictionary->decode(dictionary->encode(setting.x))) * learner.input_scale();
  EXPECT_NEAR(error.square().sum(1).mean().item<double>(),
              learner.compute_gradients({setting.x, {}}).fvu * [&] {
                const torch::Tensor scaled = setting.x * learner.input_scale();
                return (scaled - scaled.mean(0)).square().sum(1).mean().item<double>();
              }(), 1e-3);
  EXPECT_LT((dictionary->atoms().norm(2, {1}) - 1.0).abs().max().item<double>(), 1e-5);
}

/// The planted directions seen at two sites: both see all, through rotations of their own and at sizes of their own.
TEST(CrosscoderLearner, OneLatentHasADirectionAtEverySite) {
  const PlantedDirections& planted = planted_directions();
  torch::manual_seed(3);
  const auto rotation = [] { return std::get<0>(torch::linalg_qr(torch::randn({32, 32}))); };
  const torch::Tensor first = rotation(), second = rotation() * 20.0;
  const torch::Tensor rows = torch::cat({planted.rows.mm(first), planted.rows.mm(second)}, 1);
  LearnerOptions options{.width = 64, .parts = {32, 32}, .latents = 256, .seed = 1, .dead_after = 10000, .steps = 1200, .target_l0 = 4.0};
  CrosscoderLearner learner(options, measure_activations(rows, options.parts));
  torch::manual_seed(5);
  for (int64_t step = 0; step < 1200; ++step)
    learner.step({rows.index_select(0, torch::randint(rows.size(0), {512})), {}}, 3e-3 * std::min(1.0, 3.0 * (1200.0 - step) / 1200.0));
  const torch::Tensor atoms = learner.dictionary(Json::object())->atoms();
  const auto cosines = [&](const torch::Tensor& part, const torch::Tensor& rotated) {
    const auto unit = [](const torch::Tensor& rows) { return torch::nn::functional::normalize(rows); };
    return torch::mm(unit(planted.directions.mm(rotated)), unit(part).t());
  };
  // The same latent at both: of the smaller of its two cosines the largest over latents.
  const torch::Tensor both = torch::minimum(cosines(atoms.narrow(1, 0, 32), first), cosines(atoms.narrow(1, 32, 32), second));
  EXPECT_GT(std::get<0>(both.max(1)).mean().item<double>(), 0.9);
}

TEST(CrosscoderLearner, NeedsSeveralSites) {
  Setting setting;
  setting.options.parts = {};
  EXPECT_TRUE(contains(error_from([&] { CrosscoderLearner(setting.options, measure_activations(setting.x)); }), {"two sites", "FIRST+SECOND"}));
  EXPECT_TRUE(contains(error_from([&] { measure_activations(setting.x, {5, 8}); }), {"5, 8", "12"}));
}

}  // namespace
}  // namespace sememe
