#include "sememe/features/attribution.h"

#include <algorithm>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr double kDefaultWeight = 1.0;

}  // namespace

AttributionLearner::AttributionLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : ReluLearner(options, statistics) {
  check_weight("--attribution", options.attribution);
  check_weight("--unexplained", options.unexplained);
  attribution_ = options.attribution.value_or(kDefaultWeight);
  unexplained_ = options.unexplained.value_or(kDefaultWeight);
}

void AttributionLearner::begin_batch(const torch::Tensor&, const torch::Tensor& gradients) {
  if (!gradients.defined()) fail("attribution needs gradients; capture with --gradients");
  mean_norm_ = std::max(1e-30, mean_over_ranks(gradients.norm(2, {1}).mean().item<double>()));
}

AutogradLearner::Terms AttributionLearner::terms(const torch::Tensor& x, const torch::Tensor& gradients) {
  Terms terms = ReluLearner::terms(x, gradients);
  const torch::Tensor unit = gradients / mean_norm_;
  const torch::Tensor influence = terms.codes * torch::mm(unit, weights_.decoder.t());
  const torch::Tensor unexplained = (terms.error * unit).sum(1);
  terms.loss = terms.loss + attribution_ * influence.abs().sum(1).mean() + unexplained_ * unexplained.abs().mean();
  return terms;
}

std::unique_ptr<DictionaryLearner> learn_attribution(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<AttributionLearner>(options, statistics);
}

}  // namespace sememe
