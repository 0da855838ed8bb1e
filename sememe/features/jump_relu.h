#pragma once
// JumpReLU dictionaries (Rajamanoharan et al. 2024, arXiv 2407.14435): f_i = u_i where u_i > threshold_i. Thresholds are learnt through
// straight-through derivatives, with K(t) = 1 for |t| < 1/2 and a bandwidth e:
//   df_i / dthreshold_i = -(threshold_i / e) K((u_i - threshold_i) / e),   dL0 / dthreshold_i = -(1 / e) K((u_i - threshold_i) / e)
// and L0 has no derivative to u. Means over the rows of a batch:
//   l0    mean ||x - x^||^2 + sparsity (L0 / target - 1)^2, or + sparsity L0 where no target is given
//   tanh  mean ||x - x^||^2 + sparsity mean sum_i tanh(4 f_i ||d_i||) + 3e-6 mean sum_dead relu(threshold_i - u_i) ||d_i||, atoms d_i of
//         any norm (Anthropic, January 2025 update)

#include "sememe/features/autograd_learner.h"

namespace sememe {

class JumpReluLearner : public AutogradLearner {
 public:
  /// @throws UsageError for a penalty, sparsity or target that cannot be
  JumpReluLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  /// e, in the unit of scaled inputs.
  double bandwidth() const { return bandwidth_; }

 protected:
  Terms terms(const torch::Tensor& x, const torch::Tensor& gradients) override;
  void begin_batch(const torch::Tensor& x, const torch::Tensor& gradients) override;

 private:
  /// With a target, the value that as many pre-activations pass at first if they are normal: thresholds move slowly.
  double initial_threshold() const;

  bool tanh_;
  double sparsity_, target_l0_, bandwidth_;  // target 0: sparsity L0 itself
  torch::Tensor log_threshold_;
  std::optional<double> batch_l0_;  // of a batch of several parts
};

std::unique_ptr<DictionaryLearner> learn_jump_relu(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
