#include "sememe/features/batch_top_k.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/tensor_top_k.h"
#include "sememe/features/threshold_dictionary.h"

namespace sememe {
namespace {

constexpr int64_t kThresholdFrom = 1000;  // steps; before, weights change too fast
constexpr double kThresholdRate = 0.01;   // of the running mean

}  // namespace

int64_t BatchThreshold::from() const { return steps_ > 0 ? std::min(kThresholdFrom, steps_ / 2) : kThresholdFrom; }

void BatchThreshold::follow(int64_t steps_done, const std::function<double()>& smallest) {
  if (steps_done <= from()) return;
  const double value = smallest();
  double& running = *value_.data_ptr<double>();
  running = running < 0 ? value : running + kThresholdRate * (value - running);
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
  // One of several ranks may hold up to all of the batch's largest.
  const Ranks& all = options_.ranks.all;
  const int64_t most = std::min(k * options_.ranks.rows.size(), shard().count);
  select_codes_of_batch(torch::addmm(weights_.encoder_bias, centred, weights_.encoder.t()), most, codes);
  keep_largest_of_batch(codes, k * centred.size(0) * options_.ranks.rows.size(), all);
}

/// Of all ranks.
double BatchTopKLearner::smallest_code() const {
  // The bits of floats > 0 have their order.
  int64_t negative = -int64_t{std::numeric_limits<int32_t>::max()};
  if (!codes_.values.empty()) negative = -int64_t{std::bit_cast<int32_t>(*std::min_element(codes_.values.begin(), codes_.values.end()))};
  options_.ranks.all.largest(std::span(&negative, 1));
  return std::bit_cast<float>(static_cast<int32_t>(-negative));
}

StepReport BatchTopKLearner::step(const ActivationRows& rows, double learning_rate) {
  const StepReport report = TopKLearner::step(rows, learning_rate);
  if (report.l0 > 0) threshold_.follow(steps_done(), [this] { return smallest_code(); });
  return report;
}

std::shared_ptr<Dictionary> BatchTopKLearner::dictionary(const Json& origin) const {
  const double threshold = threshold_.checked(architecture(), steps_done()) / input_scale();
  Json config = origin;
  config.update(settings());
  AutoencoderWeights weights = unscaled_weights();
  const torch::Tensor thresholds = torch::full({weights.latents()}, threshold);
  return std::make_shared<ThresholdDictionary>(std::move(weights), thresholds, architecture(), config);
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
