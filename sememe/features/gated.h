#pragma once
// Learns gated dictionaries (Rajamanoharan et al. 2024, arXiv 2404.16014). With p = (x - decoder_bias) encoder^T, gate pre-activations
// pi = p + gate_bias and codes f = [pi > 0] relu(p exp(log_magnitude) + magnitude_bias), the loss, a mean over rows, is
//   ||x - f decoder - decoder_bias||^2 + sparsity sum_i relu(pi_i) + ||x - relu(pi) sg(decoder) - sg(decoder_bias)||^2
// with sg(.) a constant: the penalty then acts on the gates, and the magnitudes do not shrink.

#include "sememe/features/autograd_learner.h"

namespace sememe {

class GatedLearner : public AutogradLearner {
 public:
  /// @throws UsageError for a sparsity that cannot be
  GatedLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;

 protected:
  Terms terms(const torch::Tensor& x, const torch::Tensor& gradients) override;

 private:
  torch::Tensor log_magnitude_, magnitude_bias_;
};

std::unique_ptr<DictionaryLearner> learn_gated(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
