#include "sememe/features/gated.h"

#include <cmath>

#include "sememe/features/gated_dictionary.h"

namespace sememe {
namespace {

// Times sqrt(width), as rows of norm sqrt(width) have codes of that order. Little: a latent that too large a weight kills stays dead.
constexpr double kBeginningSparsity = 0.05;

}  // namespace

GatedLearner::GatedLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : AutogradLearner(options, statistics, {.beta1 = 0.0}) {
  set_sparsity(kBeginningSparsity * std::sqrt(static_cast<double>(options.width)));
  log_magnitude_ = add_parameter("log_magnitude", torch::zeros({options.latents}));
  magnitude_bias_ = add_parameter("magnitude_bias", torch::zeros({options.latents}));
}

AutogradLearner::Terms GatedLearner::terms(const torch::Tensor& x, const torch::Tensor&) {
  const torch::Tensor products = encoder_products(x);
  const torch::Tensor gates = (products + weights_.encoder_bias).relu();
  const torch::Tensor codes = (products * log_magnitude_.exp() + magnitude_bias_).relu() * (gates > 0);
  const torch::Tensor error = x - reconstruct(codes);
  const torch::Tensor gate_error = x - torch::addmm(weights_.decoder_bias.detach(), gates, weights_.decoder.detach());
  const torch::Tensor loss = error.square().sum(1) + gate_error.square().sum(1) + sparsity() * gates.sum(1);
  return {loss.mean(), codes, error};
}

std::shared_ptr<Dictionary> GatedLearner::dictionary(const Json& origin) const {
  const Unscaled plain = unscaled();
  const torch::Tensor magnitude_bias = magnitude_bias_.detach().cpu() * plain.code_unit;
  return std::make_shared<GatedDictionary>(plain.weights, log_magnitude_.detach().cpu().clone(), magnitude_bias, origin);
}

std::unique_ptr<DictionaryLearner> learn_gated(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<GatedLearner>(options, statistics);
}

}  // namespace sememe
