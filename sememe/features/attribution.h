#pragma once
// ReLU dictionaries whose loss also sees what matters to the model (Anthropic, April 2024 update; the baseline of Olmo et al. 2024). With G
// the gradient of the model's loss at the input, over its mean norm in the batch so that weights have no unit, and means over rows:
//   mean ||x - x^||^2 + sparsity mean sum_i f_i ||d_i|| + attribution mean sum_i |f_i d_i . G| + unexplained mean |(x - x^) . G|
// f_i d_i . G is to first order what the loss gains if latent i is removed, (x - x^) . G what it gains by reconstruction.

#include "sememe/features/relu.h"

namespace sememe {

class AttributionLearner : public ReluLearner {
 public:
  /// @throws UsageError for a weight that cannot be
  AttributionLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

 protected:
  Terms terms(const torch::Tensor& x, const torch::Tensor& gradients) override;
  void begin_batch(const torch::Tensor& x, const torch::Tensor& gradients) override;
  std::string architecture() const override { return "attribution"; }

 private:
  double attribution_, unexplained_;
  double mean_norm_ = 1.0;  // of the batch's gradients
};

std::unique_ptr<DictionaryLearner> learn_attribution(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
