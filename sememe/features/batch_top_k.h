#pragma once
// Learns BatchTopK dictionaries (Bussmann et al. 2024, arXiv 2412.06410): of a batch of B rows the B k largest positive pre-activations are
// the codes, so that rows have as many as they need and k on average. A row alone is encoded by a threshold: the running mean of the
// smallest pre-activation that a batch kept. Loss, AuxK and gradients are TopK's.

#include "sememe/features/top_k.h"

namespace sememe {

class BatchTopKLearner : public TopKLearner {
 public:
  BatchTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  StepReport step(const ActivationRows& rows, double learning_rate) override;
  /// @throws Error if there were too few steps for a threshold
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  /// Of pre-activations of scaled inputs; below 0 while there is none.
  double threshold() const { return threshold_.item<double>(); }

 protected:
  void select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) override;
  /// The name under which dictionaries are saved, and their settings.
  virtual std::string architecture() const { return "batchtopk"; }
  virtual Json settings() const { return {{"k", options_.k}}; }

 private:
  int64_t threshold_from() const;
  double smallest_code() const;

  torch::Tensor threshold_;  // [1] float64
};

std::unique_ptr<DictionaryLearner> learn_batch_top_k(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
