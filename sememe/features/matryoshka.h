#pragma once
// Learns Matryoshka dictionaries (Bussmann et al. 2025, arXiv 2503.17547): BatchTopK whose first latents must do without the later ones.
// With nested prefixes of the latents, of m_1 < ... < m_p = latents, the loss is
//   sum_j ||x - (f[1..m_j] decoder[1..m_j] + decoder_bias)||^2 / variance + 1/32 AuxK
// where the codes f are selected once, among all latents. Broad features then come first and are not split up by narrow ones.

#include "sememe/features/batch_top_k.h"

namespace sememe {

/// options.prefixes, by default 1/16, 1/8, 1/4, 1/2 and all of the latents.
/// @throws UsageError unless they ascend from at least 1 to the number of latents
std::vector<int64_t> matryoshka_prefixes(const LearnerOptions& options);

class MatryoshkaLearner : public BatchTopKLearner {
 public:
  /// @throws UsageError as matryoshka_prefixes()
  MatryoshkaLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  const std::vector<int64_t>& prefixes() const { return prefixes_; }

 protected:
  Reconstruction add_reconstruction(const SelectedCodes& codes, const torch::Tensor& x, double weight) override;
  std::string architecture() const override { return "matryoshka"; }
  Json settings() const override { return {{"k", options_.k}, {"prefixes", prefixes_}}; }

 private:
  void split(const SelectedCodes& codes);

  std::vector<int64_t> prefixes_;
  std::vector<SelectedCodes> groups_;  // codes between one prefix and the next
};

std::unique_ptr<DictionaryLearner> learn_matryoshka(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
