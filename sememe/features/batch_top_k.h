#pragma once
// Learns BatchTopK dictionaries (Bussmann et al. 2024, arXiv 2412.06410): of a batch of B rows the B k largest positive pre-activations are
// the codes, so that rows have as many as they need and k on average. A row alone is encoded by a threshold: the running mean of the
// smallest pre-activation that a batch kept. Loss, AuxK and gradients are TopK's.

#include <functional>
#include <string>

#include "sememe/features/top_k.h"

namespace sememe {

/// By which a row alone is encoded: the running mean of the smallest code of a batch, from the 1,000th step on or the middle of a shorter
/// run.
class BatchThreshold {
 public:
  /// @param steps length of the run, 0 if it is not known
  explicit BatchThreshold(int64_t steps) : steps_(steps), value_(torch::full({1}, -1.0, torch::kDouble)) {}

  /// Called after each step that kept codes. @param smallest asked for the smallest of them from the step on that counts
  void follow(int64_t steps_done, const std::function<double()>& smallest);
  /// Of pre-activations of scaled inputs; below 0 while there is none.
  double value() const { return value_.item<double>(); }
  /// @throws Error if there were too few steps for a threshold
  double checked(const std::string& architecture, int64_t steps_done) const;
  const torch::Tensor& tensor() const { return value_; }  ///< [1] float64, for a checkpoint

 private:
  int64_t from() const;

  int64_t steps_;
  torch::Tensor value_;
};

class BatchTopKLearner : public TopKLearner {
 public:
  BatchTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  StepReport step(const ActivationRows& rows, double learning_rate) override;
  /// @throws Error if there were too few steps for a threshold
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  /// Of pre-activations of scaled inputs; below 0 while there is none.
  double threshold() const { return threshold_.value(); }

 protected:
  void select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) override;
  /// The name under which dictionaries are saved, and their settings.
  virtual std::string architecture() const { return "batchtopk"; }
  virtual Json settings() const { return {{"k", options_.k}}; }

 private:
  double smallest_code() const;

  BatchThreshold threshold_;
};

std::unique_ptr<DictionaryLearner> learn_batch_top_k(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
