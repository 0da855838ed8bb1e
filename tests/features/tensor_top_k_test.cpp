#include "sememe/features/tensor_top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "sememe/features/architectures.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/matryoshka.h"
#include "tests/features/learner_setting.h"
#include "tests/features/on_device.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

/// The learner on the CPU that one by tensor operations is held against.
std::unique_ptr<TopKLearner> learn_by_kernels(std::string_view architecture, const LearnerOptions& options,
                                              const ActivationStatistics& statistics) {
  if (architecture == "gsae") return std::make_unique<GradientTopKLearner>(options, statistics);
  if (architecture == "batchtopk") return std::make_unique<BatchTopKLearner>(options, statistics);
  if (architecture == "matryoshka") return std::make_unique<MatryoshkaLearner>(options, statistics);
  return std::make_unique<TopKLearner>(options, statistics);
}

constexpr const char* kArchitectures[] = {"topk", "gsae", "batchtopk", "matryoshka"};

class TensorTopK : public OnDevice<ScratchFolder> {
 protected:
  struct Setting : LearnerSetting {
    Setting() : LearnerSetting({.width = 12, .latents = 40, .k = 5, .seed = 3, .auxiliary_k = 4}) {}
    ActivationRows rows() const { return {x, gradients}; }
    ActivationRows first_rows() const { return {x.narrow(0, 0, 3), gradients.narrow(0, 0, 3)}; }
  };
  std::unique_ptr<TensorTopKLearner> by_tensors(std::string_view architecture, const Setting& setting) const {
    LearnerOptions options = setting.options;
    options.device = device();
    return learn_by_tensors(architecture, options, setting.statistics);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, TensorTopK, every_device, name_of_device);

/// The largest difference, in parts of the norm of what was wanted.
double difference(const AutoencoderWeights& found, const AutoencoderWeights& wanted) {
  double largest = 0.0;
  const NamedTensors have = found.named(), want = wanted.named();
  for (size_t i = 0; i < have.size(); ++i)
    largest =
        std::max(largest, (have[i].second.cpu() - want[i].second).norm().item<double>() / (want[i].second.norm().item<double>() + 1e-6));
  return largest;
}

TEST_P(TensorTopK, BeginsWithTheWeightsOfTheLearnerOnTheCpu) {
  const Setting setting;
  for (const char* const name : kArchitectures)
    EXPECT_LT(difference(by_tensors(name, setting)->weights(), learn_by_kernels(name, setting.options, setting.statistics)->weights()),
              1e-6)
        << name;
}

TEST_P(TensorTopK, LossAndGradientsAreThoseOfTheLearnerOnTheCpuWhateverThePartsAre) {
  for (const char* const name : kArchitectures)
    for (const bool with_dead : {false, true})
      for (const int64_t part : {7, 64}) {
        Setting setting;
        if (with_dead) setting.options.dead_after = 1;  // after a first step, what that step did not select is dead
        setting.options.multi_top_k = with_dead && std::string(name) == "topk";
        const auto found = by_tensors(name, setting);
        const auto wanted = learn_by_kernels(name, setting.options, setting.statistics);
        found->limit_part(part);
        if (with_dead) {
          found->step(setting.first_rows(), 1e-3);
          wanted->step(setting.first_rows(), 1e-3);
        }
        const StepReport report = found->compute_gradients(setting.rows()), reference = wanted->compute_gradients(setting.rows());
        const std::string what = fmt::format("{}, dead latents {}, parts of {}", name, with_dead, part);
        EXPECT_NEAR(report.loss, reference.loss, 1e-5 * reference.loss) << what;
        EXPECT_NEAR(report.fvu, reference.fvu, 1e-5 * reference.fvu) << what;
        EXPECT_EQ(report.l0, reference.l0) << what;
        EXPECT_LT(difference(found->gradients(), wanted->gradients()), 2e-5) << what;
      }
}

TEST_P(TensorTopK, LossFallsAsThatOfTheLearnerOnTheCpu) {
  for (const char* const name : kArchitectures) {
    Setting setting;
    setting.options.dead_after = 200;
    setting.options.steps = 40;
    const auto found = by_tensors(name, setting);
    const auto wanted = learn_by_kernels(name, setting.options, setting.statistics);
    for (int64_t step = 0; step < 40; ++step) {
      const StepReport report = found->step(setting.rows(), 1e-2), reference = wanted->step(setting.rows(), 1e-2);
      ASSERT_NEAR(report.loss, reference.loss, 1e-3 * reference.loss) << name << ", step " << step;
      ASSERT_EQ(report.dead, reference.dead) << name << ", step " << step;
    }
    EXPECT_LT(difference(found->weights(), wanted->weights()), 1e-2) << name;
    EXPECT_TRUE(torch::equal(found->rows_since_selected().cpu(), wanted->rows_since_selected())) << name;
    const auto dictionary = found->dictionary(Json::object()), reference = wanted->dictionary(Json::object());
    EXPECT_EQ(dictionary->architecture(), name);
    const torch::Tensor output = reference->decode(reference->encode(setting.x));
    EXPECT_LT((dictionary->decode(dictionary->encode(setting.x)) - output).norm().item<double>(), 1e-2 * output.norm().item<double>())
        << name;
  }
}

TEST_P(TensorTopK, ACheckpointOfTheLearnerOnTheCpuIsContinuedAndTheOtherWayRound) {
  for (const char* const name : kArchitectures) {
    Setting setting;
    setting.options.steps = 10;
    const auto kernels = learn_by_kernels(name, setting.options, setting.statistics);
    for (int step = 0; step < 7; ++step) kernels->step(setting.rows(), 1e-2);
    save_tensors(folder_ / "state", kernels->state());
    const auto tensors = by_tensors(name, setting);
    tensors->restore(SafetensorsFile(folder_ / "state"));
    const double wanted = kernels->step(setting.rows(), 1e-2).loss;
    EXPECT_NEAR(tensors->step(setting.rows(), 1e-2).loss, wanted, 1e-5 * wanted) << name;
    EXPECT_LT(difference(tensors->weights(), kernels->weights()), 1e-4) << name;

    save_tensors(folder_ / "back", tensors->state());
    const auto again = learn_by_kernels(name, setting.options, setting.statistics);
    again->restore(SafetensorsFile(folder_ / "back"));
    ASSERT_EQ(again->state().size(), tensors->state().size());
    const double next = kernels->step(setting.rows(), 1e-2).loss;
    EXPECT_NEAR(again->step(setting.rows(), 1e-2).loss, next, 1e-4 * next) << name;
  }
}

TEST_P(TensorTopK, GoesOnTheSameAfterRestoring) {
  for (const char* const name : kArchitectures) {
    Setting setting;
    setting.options.steps = 10;
    const auto first = by_tensors(name, setting), second = by_tensors(name, setting);
    for (int step = 0; step < 7; ++step) first->step(setting.rows(), 1e-2);
    save_tensors(folder_ / "state", first->state());
    second->restore(SafetensorsFile(folder_ / "state"));
    first->step(setting.rows(), 1e-2);
    second->step(setting.rows(), 1e-2);
    for (size_t i = 0; i < first->state().size(); ++i)
      EXPECT_TRUE(torch::equal(first->state()[i].second, second->state()[i].second)) << name << ", " << first->state()[i].first;
  }
}

TEST_P(TensorTopK, RedrawsAtomsThatLoseTheirDirectionAsTheLearnerOnTheCpuDoes) {
  const Setting setting;
  const auto learner = by_tensors("topk", setting);
  NamedTensors state = learner->state();
  for (auto& [name, tensor] : state)
    if (name == "weights.decoder") tensor[7].zero_();
  learner->step(setting.rows(), 0.0);
  const torch::Tensor redrawn = random_directions(1, 12, 3, "redraw/7/1");
  EXPECT_TRUE(torch::equal(learner->weights().decoder[7].cpu(), redrawn[0]));
}

TEST_P(TensorTopK, FaultsAreSaidAsByTheLearnerOnTheCpu) {
  Setting setting;
  for (const double rate : {1e15, 1e30}) {
    const auto learner = by_tensors("topk", setting);
    const std::string said = error_from([&] {
      for (int step = 0; step < 10; ++step) learner->step(setting.rows(), rate);
    });
    EXPECT_TRUE(contains(said, {"step 2", "lower --learning-rate"})) << rate << ": " << said;
  }
  EXPECT_TRUE(contains(error_from([&] { by_tensors("gsae", setting)->step({setting.x, {}}, 1e-3); }), {"capture with --gradients"}));
  EXPECT_TRUE(contains(error_from([&] { by_tensors("batchtopk", setting)->dictionary(Json::object()); }), {"train longer"}));
  setting.x[3][2] = std::numeric_limits<float>::quiet_NaN();
  for (const char* const name : kArchitectures)
    EXPECT_TRUE(contains(error_from([&] { by_tensors(name, setting)->step(setting.rows(), 1e-3); }), {"row 3", "nan"})) << name;
  setting.options.gradient.beta = -1.0;
  EXPECT_TRUE(contains(error_from([&] { by_tensors("gsae", setting); }), {"--beta"}));
  setting.options.prefixes = {40, 8};
  EXPECT_TRUE(contains(error_from([&] { by_tensors("matryoshka", setting); }), {"--prefixes"}));
}

}  // namespace
}  // namespace sememe
