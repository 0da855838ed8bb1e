#include "sememe/features/transcoder.h"

#include <gtest/gtest.h>

#include "sememe/features/evaluation.h"
#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .parts = {5, 7}, .latents = 40, .seed = 3, .sparsity = 0.7}) {
    statistics = measure_activations(x, options.parts);
  }
};

TEST(TranscoderLearner, GradientsEqualFiniteDifferences) {
  const Setting setting;
  TranscoderLearner learner(setting.options, setting.statistics);
  learner.step({setting.x, {}}, 1e-2);
  const StepReport report = learner.compute_gradients({setting.x, {}});
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const torch::Tensor read = x.narrow(1, 0, 5), written = x.narrow(1, 5, 7);
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor bias = at.at("decoder_bias"), decoder = at.at("decoder").narrow(1, 5, 7);
    const torch::Tensor f = (torch::mm(read - bias.narrow(0, 0, 5), at.at("encoder").narrow(1, 0, 5).t()) + at.at("encoder_bias")).relu();
    const torch::Tensor error = written - torch::mm(f, decoder) - bias.narrow(0, 5, 7);
    return (error.square().sum() + 0.7 * (f * decoder.norm(2, {1})).sum()).item<double>() / 64.0;
  };
  EXPECT_NEAR(report.loss, loss(in_double(learner.parameters())), 1e-5 * report.loss);
  expect_slopes(learner.parameters(), learner.gradients(), loss);
}

TEST(TranscoderLearner, ReadsOneSiteAndWritesTheOther) {
  Setting setting;
  TranscoderLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 50; ++step) learner.step({setting.x, {}}, 1e-2);
  const auto dictionary = learner.dictionary(Json::object());
  EXPECT_EQ(dictionary->written(), (Columns{5, 7}));
  torch::Tensor blinded = setting.x.clone();
  blinded.narrow(1, 5, 7).fill_(1e3);
  const torch::Tensor rows = dictionary->decode(dictionary->encode(setting.x));
  EXPECT_TRUE(torch::equal(rows, dictionary->decode(dictionary->encode(blinded))));
  EXPECT_TRUE(torch::equal(rows.narrow(1, 0, 5), torch::zeros({64, 5})));
  EXPECT_GT(rows.narrow(1, 5, 7).norm().item<double>(), 0.0);
}

TEST(TranscoderLearner, PredictsMoreThanAnyLinearMapFromASparseCode) {
  // y is another set of directions at the amplitudes at which those of x are in the row.
  const PlantedDirections& planted = planted_directions();
  torch::manual_seed(3);
  const torch::Tensor images = torch::nn::functional::normalize(torch::randn({128, 16}));
  const auto joined = [&](int64_t count) {
    const torch::Tensor amplitudes = (torch::rand({count, 128}) < 0.03) * (torch::rand({count, 128}) + 0.5);
    return torch::cat({amplitudes.mm(planted.directions), amplitudes.mm(images)}, 1);
  };
  const torch::Tensor rows = joined(40000), held_out = joined(4000);
  LearnerOptions options{.width = 48, .parts = {32, 16}, .latents = 256, .seed = 1, .dead_after = 10000, .steps = 1500, .target_l0 = 5.0};
  TranscoderLearner learner(options, measure_activations(rows, options.parts));
  for (int64_t step = 0; step < 1500; ++step)
    learner.step({rows.index_select(0, torch::randint(rows.size(0), {512})), {}}, 3e-3 * std::min(1.0, 3.0 * (1500.0 - step) / 1500.0));
  const auto dictionary = learner.dictionary(Json::object());
  ReconstructionFigures figures(dictionary->size(), 16);
  const SparseCodes codes = dictionary->encode(held_out);
  figures.add(held_out.narrow(1, 32, 16), codes, dictionary->decode(codes).narrow(1, 32, 16));
  const auto with_one = [](const torch::Tensor& some) { return torch::cat({some.narrow(1, 0, 32), torch::ones({some.size(0), 1})}, 1); };
  const torch::Tensor map = std::get<0>(torch::linalg_lstsq(with_one(rows), rows.narrow(1, 32, 16)));
  const torch::Tensor y = held_out.narrow(1, 32, 16);
  const double linear = ((y - with_one(held_out).mm(map)).square().sum() / (y - y.mean(0)).square().sum()).item<double>();
  EXPECT_LT(figures.fvu(), 0.9 * linear);
  EXPECT_NEAR(figures.l0(), 5.0, 1.5);
}

class Transcoder : public ScratchFolder {};

TEST_F(Transcoder, IsEvaluatedWhereItWrites) {
  const LanguageModel model = small_language_model();
  const auto text = write_text(folder_ / "text.txt", 40);
  LearnerOptions options{.width = 32, .parts = {16, 16}, .latents = 24, .seed = 1, .sparsity = 0.0};
  torch::manual_seed(1);
  const torch::Tensor rows = torch::randn({256, 32});
  TranscoderLearner learner(options, measure_activations(rows, options.parts));
  const auto dictionary = learner.dictionary(Json::object());
  const Json found = evaluate_dictionary(*dictionary, model, text, {.site = "blocks.0.mlp.input+blocks.0.mlp"});
  const Json mlp = evaluate_dictionary(*learner.dictionary(Json::object()), model, text, {.site = "blocks.0.attention+blocks.0.mlp"});
  EXPECT_DOUBLE_EQ(found["ce_zero"].get<double>(), mlp["ce_zero"].get<double>());  // zeros are put at the MLP's output alone
  EXPECT_NE(found["fvu"], mlp["fvu"]);
  EXPECT_TRUE(contains(error_from([&] { evaluate_dictionary(*dictionary, model, text, {.site = "blocks.0.mlp"}); }), {"width 32", "16"}));
  EXPECT_TRUE(contains(error_from([&] { evaluate_dictionary(*dictionary, model, text, {.site = "blocks.0.mlp+blocks.0.mlp.input"}); }),
                       {"order", "blocks.0.mlp.input"}));
}

TEST_F(Transcoder, IsWholeAfterSavingAndRefusesColumnsThatCannotBe) {
  Setting setting;
  const auto dictionary = TranscoderLearner(setting.options, setting.statistics).dictionary(Json::object());
  dictionary->save(folder_);
  EXPECT_EQ(load_dictionary(folder_)->written(), (Columns{5, 7}));
  for (const Json& written : {Json{5, 8}, Json{-1, 3}, Json{0, 0}, Json{5}, Json("all")}) {
    Json config = read_json(folder_ / "config.json");
    config["written"] = written;
    write_json(folder_ / "config.json", config);
    EXPECT_TRUE(contains(error_from([&] { load_dictionary(folder_); }), {"written"})) << written.dump();
  }
}

TEST_F(Transcoder, NeedsTwoSites) {
  Setting setting;
  setting.options.parts = {};
  EXPECT_TRUE(contains(error_from([&] { TranscoderLearner(setting.options, measure_activations(setting.x)); }), {"READ+WRITTEN"}));
}

}  // namespace
}  // namespace sememe
