#include "sememe/features/batch_top_k.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/features/tensor_top_k.h"
#include "sememe/features/threshold_dictionary.h"

namespace sememe {
namespace {

constexpr int64_t kThresholdFrom = 1000;  // steps; before, weights change too fast
constexpr double kThresholdRate = 0.01;   // of the running mean

}  // namespace

int64_t BatchThreshold::from() const { return steps_ > 0 ? std::min(kThresholdFrom, steps_ / 2) : kThresholdFrom; }

void BatchThreshold::follow(int64_t steps_done, const torch::Tensor& values) {
  if (steps_done <= from() || values.numel() == 0) return;
  const double smallest = values.min().item<float>();
  double& running = *value_.data_ptr<double>();
  running = running < 0 ? smallest : running + kThresholdRate * (smallest - running);
}

double BatchThreshold::checked(const std::string& architecture, int64_t steps_done) const {
  if (value() < 0)
    fail("{}: {} steps are too few for the threshold by which single rows are encoded, it is measured after step {}; train longer",
         architecture, steps_done, from());
  return value();
}

BatchTopKLearner::BatchTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : TopKLearner(options, statistics), threshold_(options.steps) {}

void BatchTopKLearner::select(const ActivationRows&, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) {
  select_codes_of_batch(torch::addmm(weights_.encoder_bias, centred, weights_.encoder.t()), k, codes);
}

StepReport BatchTopKLearner::step(const ActivationRows& rows, double learning_rate) {
  const StepReport report = TopKLearner::step(rows, learning_rate);
  threshold_.follow(steps_done(), torch::from_blob(codes_.values.data(), {static_cast<int64_t>(codes_.values.size())}));
  return report;
}

std::shared_ptr<Dictionary> BatchTopKLearner::dictionary(const Json& origin) const {
  const double threshold = threshold_.checked(architecture(), steps_done()) / input_scale();
  Json config = origin;
  config.update(settings());
  return std::make_shared<ThresholdDictionary>(unscaled_weights(), torch::full({options_.latents}, threshold), architecture(), config);
}

NamedTensors BatchTopKLearner::state() const {
  NamedTensors state = TopKLearner::state();
  state.emplace_back("threshold", threshold_.tensor());
  return state;
}

std::unique_ptr<DictionaryLearner> learn_batch_top_k(const LearnerOptions& options, const ActivationStatistics& statistics) {
  if (!options.device.is_cpu()) return learn_by_tensors("batchtopk", options, statistics);
  return std::make_unique<BatchTopKLearner>(options, statistics);
}

}  // namespace sememe
