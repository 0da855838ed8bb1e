#include "sememe/features/batch_top_k.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "sememe/features/threshold_dictionary.h"
#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  Setting() : LearnerSetting({.width = 12, .latents = 40, .k = 5, .seed = 3, .auxiliary_k = 4, .steps = 20}) {}
};

RC_GTEST_PROP(SelectCodesOfBatch, KeepsWhatSortingKeeps, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const int64_t rows = *rc::gen::inRange<int64_t>(1, 9), latents = *rc::gen::inRange<int64_t>(1, 20);
  const int64_t k = *rc::gen::inRange<int64_t>(1, 25);
  const torch::Tensor u = torch::randint(-5, 9, {rows, latents}).to(torch::kFloat);  // many ties
  const float* const values = u.data_ptr<float>();
  std::vector<int64_t> order(rows * latents);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return values[a] > values[b]; });
  order.resize(std::min(rows * latents, rows * k));
  std::erase_if(order, [&](int64_t i) { return values[i] <= 0; });
  std::sort(order.begin(), order.end());
  SelectedCodes codes;
  select_codes_of_batch(u, k, codes);
  RC_ASSERT(codes.rows() == rows);
  RC_ASSERT(codes.atoms.size() == order.size());
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = codes.offsets[row]; i < codes.offsets[row + 1]; ++i) {
      RC_ASSERT(row * latents + codes.atoms[i] == order[i]);
      RC_ASSERT(codes.values[i] == values[order[i]]);
    }
}

TEST(SelectCodesOfBatch, NamesRowAndLatentOfANaN) {
  torch::Tensor u = torch::ones({4, 7});
  u[2][5] = std::numeric_limits<float>::quiet_NaN();
  SelectedCodes codes;
  EXPECT_TRUE(contains(error_from([&] { select_codes_of_batch(u, 3, codes); }), {"row 2", "latent 5", "nan"}));
}

TEST(BatchTopKLearner, GradientsEqualFiniteDifferences) {
  const Setting setting;
  BatchTopKLearner learner(setting.options, setting.statistics);
  const StepReport report = learner.compute_gradients({setting.x, {}});
  EXPECT_EQ(report.l0, 5.0);
  const torch::Tensor x = setting.x.to(torch::kDouble) * learner.input_scale();
  const double spread = 64.0 * setting.statistics.variance * learner.input_scale() * learner.input_scale();
  const auto loss = [&](const Parameters& at) {
    const torch::Tensor u = (torch::mm(x - at.at("decoder_bias"), at.at("encoder").t()) + at.at("encoder_bias")).relu();
    const torch::Tensor least = std::get<0>(u.flatten().topk(64 * 5)).min();
    const torch::Tensor error = x - torch::mm(u * (u >= least), at.at("decoder")) - at.at("decoder_bias");
    return error.square().sum().item<double>() / spread;
  };
  EXPECT_NEAR(report.loss, loss(in_double(learner.weights().named())), 1e-5);
  expect_slopes(learner.weights().named(), learner.gradients().named(), loss);
}

TEST(BatchTopKLearner, GivesRowsAsManyCodesAsTheyNeed) {
  const auto dictionary = learn_planted("batchtopk", {.k = 3}, 1200, 1e-2)->dictionary(Json::object());
  EXPECT_GT(planted_directions().found_by(*dictionary), 0.9);
  const SparseCodes codes = dictionary->encode(planted_directions().held_out);
  const torch::Tensor counts = codes.offsets.diff();
  EXPECT_EQ(counts.min().item<int64_t>(), 0);
  EXPECT_GT(counts.max().item<int64_t>(), 5);
  // The threshold reproduces k on rows that were never seen.
  EXPECT_NEAR(measure_held_out(*dictionary).l0, 3.0, 0.2);
}

TEST(BatchTopKLearner, MeasuresItsThresholdFromTheMiddleOfTheRun) {
  const Setting setting;
  BatchTopKLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 10; ++step) learner.step({setting.x, {}}, 1e-2);
  EXPECT_LT(learner.threshold(), 0.0);
  EXPECT_TRUE(contains(error_from([&] { learner.dictionary(Json::object()); }), {"batchtopk", "10 steps", "train longer"}));
  learner.step({setting.x, {}}, 0.0);
  const double first = learner.threshold();
  EXPECT_GT(first, 0.0);
  const auto dictionary = std::dynamic_pointer_cast<ThresholdDictionary>(learner.dictionary(Json::object()));
  EXPECT_NEAR(dictionary->thresholds()[17].item<double>(), first / learner.input_scale(), 1e-6);
  // A hundredth of the way to the next: three times the rows have three times the threshold but for the biases.
  learner.step({setting.x * 3.0, {}}, 0.0);
  BatchTopKLearner other(setting.options, setting.statistics);
  for (int step = 0; step < 10; ++step) other.step({setting.x, {}}, 1e-2);
  other.step({setting.x * 3.0, {}}, 0.0);
  EXPECT_NEAR(learner.threshold(), first + 0.01 * (other.threshold() - first), 1e-3 * first);
  EXPECT_GT(other.threshold(), 1.5 * first);
}

}  // namespace
}  // namespace sememe
