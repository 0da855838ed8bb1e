#pragma once
// Principal components as a dictionary (Pearson 1901): the k components of largest |component . (x - mean)| are the code of a row, which is
// what "PCA at L0 = k" means. Codes are positive here, so each component is two latents, one for each sign, and the dictionary is a TopK
// dictionary whose encoder is its decoder; a row never has both latents of a component.

#include <string_view>

#include "sememe/features/learner.h"
#include "sememe/features/top_k.h"

namespace sememe {

/// Mean and covariance of rows that come batch by batch, in float64; batches are joined as in Chan, Golub & LeVeque 1983.
class RowMoments {
 public:
  explicit RowMoments(int64_t width);

  /// rows [batch, width]
  void add(const torch::Tensor& rows);
  int64_t rows() const { return rows_.item<int64_t>(); }
  const torch::Tensor& mean() const { return mean_; }  ///< [width]
  /// [width, width], the mean over the rows of (x - mean) (x - mean)^T
  torch::Tensor covariance() const { return scatter_ / static_cast<double>(rows()); }
  NamedTensors state() const { return {{"rows", rows_}, {"mean", mean_}, {"scatter", scatter_}}; }

 private:
  torch::Tensor rows_, mean_, scatter_;
};

/// float64
struct PrincipalComponents {
  torch::Tensor directions;  ///< [count, width] orthonormal
  torch::Tensor variances;   ///< [count] of the rows along them, falling
};

/// The leading eigenvectors of a covariance [width, width] float64.
PrincipalComponents principal_components(const torch::Tensor& covariance, int64_t count);

/// How many components --latents asks for, two latents each.
/// @throws UsageError if their number is odd or more than twice the width
int64_t count_components(const LearnerOptions& options, std::string_view architecture);

/// Weights of codes of both signs: latent 2 i is component i, latent 2 i + 1 its negative, encoder biases are 0.
/// @param encoder, decoder [components, width]
/// @param mean             [width], becomes the decoder's bias
AutoencoderWeights weights_of_both_signs(const torch::Tensor& encoder, const torch::Tensor& decoder, const torch::Tensor& mean);

class PcaLearner : public DictionaryLearner {
 public:
  /// @throws UsageError as count_components()
  PcaLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  /// Takes the batch into the moments; there is no learning rate. Reports the batch under the components as they were at the last step
  /// whose number is a power of 2, this one included: loss and fvu are the same.
  /// @throws Error naming the row if a value is NaN or infinite
  StepReport step(const ActivationRows& rows, double learning_rate) override;
  /// @throws Error if there were fewer rows than latents, or all were the same
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override;

 private:
  std::shared_ptr<TopKDictionary> fit(const Json& origin) const;

  LearnerOptions options_;
  int64_t components_;
  double variance_;
  RowMoments moments_;
  torch::Tensor step_;
  AutoencoderWeights reported_;  // by which steps are reported
  std::shared_ptr<TopKDictionary> reporting_;
};

std::unique_ptr<DictionaryLearner> learn_pca(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
