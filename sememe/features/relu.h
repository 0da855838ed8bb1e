#pragma once
// ReLU dictionaries with an L1 penalty, in two forms. With x^ = f decoder + decoder_bias and means over the rows of a batch:
//   decoder-norm  mean ||x - x^||^2 + sparsity mean sum_i f_i ||d_i||, atoms d_i of any norm ("April update", Anthropic 2024)
//   classic       mean ||x - x^||^2 + sparsity mean sum_i f_i, atoms of norm 1, and latents that have died begin anew on inputs that are
//                 reconstructed badly (Bricken et al. 2023, "Towards monosemanticity")

#include "sememe/features/autograd_learner.h"

namespace sememe {

class ReluLearner : public AutogradLearner {
 public:
  /// @throws UsageError for a penalty or sparsity that cannot be
  ReluLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;

 protected:
  Terms terms(const torch::Tensor& x, const torch::Tensor& gradients) override;
  void after_step(const torch::Tensor& x, const torch::Tensor& error) override;
  /// What a latent's activation is weighed with in the penalty: the norm of its atom. [latents]
  virtual torch::Tensor atom_sizes() const { return weights_.decoder.norm(2, {1}); }
  /// The name under which dictionaries are saved.
  virtual std::string architecture() const { return "relu"; }

 private:
  void resample(const torch::Tensor& x, const torch::Tensor& error, const torch::Tensor& latents);

  bool classic_;
};

std::unique_ptr<DictionaryLearner> learn_relu(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
