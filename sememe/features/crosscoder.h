#pragma once
// Crosscoders (Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing"): one code for several sites at once. A
// row holds the rows of all sites side by side, so that encoder and decoder have a part for each; the loss, a mean over rows, is
//   sum over sites l of ||x_l - x^_l||^2 + sparsity sum_i f_i sum_l ||d_i,l||
// with every site scaled to the same norm: an atom pays for each site at which it is written.

#include "sememe/features/relu.h"

namespace sememe {

class CrosscoderLearner : public ReluLearner {
 public:
  /// @throws UsageError if options.parts has fewer than two sites
  CrosscoderLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

 protected:
  torch::Tensor atom_sizes() const override;
  std::string architecture() const override { return "crosscoder"; }
};

std::unique_ptr<DictionaryLearner> learn_crosscoder(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
