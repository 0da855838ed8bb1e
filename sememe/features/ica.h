#pragma once
// Independent components as a dictionary: FastICA (Hyvarinen 1999, "Fast and robust fixed-point algorithms for independent component
// analysis") on a sample of rows whitened by their principal components. Atoms are the columns of the mixing matrix, brought to norm 1 with
// their scale in the code; the k largest sources of a row, by absolute value of the code, are its code. As with PCA (pca.h), a component is
// two latents, one for each sign, and the dictionary is a TopK dictionary; here its encoder, the unmixing, is not its decoder.

#include <algorithm>
#include <cstdint>

#include "sememe/features/learner.h"
#include "sememe/features/top_k.h"

namespace sememe {

struct FastIcaOptions {
  int64_t iterations = 200;  ///< at most
  double tolerance = 1e-4;   ///< it ends when no row of the unmixing turns further: 1 - |cosine| of each with itself before
  uint64_t seed = 1;
};

struct FastIca {
  torch::Tensor unmixing;  ///< [components, components] float64, orthogonal: sources = whitened unmixing^T
  int64_t iterations = 0;
  double turned = 0.0;  ///< largest 1 - |cosine| of the last iteration
};

/// Maximises the non-Gaussianity of all sources at once, by the contrast log cosh, from random rows: the fixed point
/// W <- E[tanh(W z) z^T] - diag(E[1 - tanh(W z)^2]) W, each time followed by the symmetric decorrelation W <- (W W^T)^(-1/2) W.
/// @param whitened [rows, components] float32, mean 0 and covariance 1
/// @throws Interrupted
FastIca fast_ica(const torch::Tensor& whitened, const FastIcaOptions& options);

/// Independent components of rows [rows, width], the one whose source adds most variance first, as weights of both signs.
/// @throws Error if the rows span fewer dimensions than there are components; Interrupted
AutoencoderWeights independent_components(const torch::Tensor& rows, int64_t components, const FastIcaOptions& options);

class IcaLearner : public DictionaryLearner {
 public:
  static constexpr int64_t kSampleRows = 50'000;

  /// @throws UsageError as count_components()
  IcaLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  /// Keeps a uniform sample of the rows so far, at most kSampleRows (Vitter 1985, algorithm R). Where the length of the run is known,
  /// FastICA runs before its last twentieth, which then only measures. There is no learning rate. Loss and fvu are the same: the batch's
  /// under the components, and before there are any those of the mean, 1 with L0 0.
  /// @throws Error naming the row if a value is NaN or infinite, and as independent_components(); Interrupted
  StepReport step(const ActivationRows& rows, double learning_rate) override;
  /// Runs FastICA if step() has not.
  /// @throws Error if there were fewer rows than latents, and as independent_components(); Interrupted
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override;

  int64_t sampled() const { return std::min(rows_.item<int64_t>(), kSampleRows); }

 private:
  AutoencoderWeights fit() const;
  void add_to_sample(const torch::Tensor& rows);
  bool fitted() const { return reporting_ != nullptr; }
  void report_by(AutoencoderWeights weights);

  LearnerOptions options_;
  int64_t components_;
  double variance_;
  torch::Tensor sample_;  // [kSampleRows, width], of which sampled() rows are filled
  torch::Tensor rows_, step_;
  std::shared_ptr<TopKDictionary> reporting_;
};

std::unique_ptr<DictionaryLearner> learn_ica(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
