#pragma once
// g-SAE: a TopK dictionary whose selection also looks at the gradient G of the model's loss at the input (Olmo et al. 2024,
// arXiv 2411.10397). With g_i = |decoder_i . G|, the influence of latent i on the loss per unit of its activation z_i, the k
// latents of largest z_i (1 + beta g_i) are kept (score "additive"), or of largest z_i g_i ("product"). Their values stay z_i.
// beta = 0 is exactly TopK. Where G is zero, as at the last token of a text, selection is plain TopK.

#include "sememe/features/top_k.h"

namespace sememe {

/// @throws UsageError naming the option
void check_selection(const GradientSelection& selection);

/// What the selecting kernels are given. @param influence_mean what "batch-mean" scaling divides g by
kernels::TopKOptions selection_options(const GradientSelection& selection, int64_t k, double influence_mean);

/// The mean of g over the first rows of a batch and all latents of the decoder.
/// @param gradients [batch, width], on the decoder's device
double measure_influence(const torch::Tensor& gradients, const torch::Tensor& decoder);
/// Takes it into a running mean over steps. @param running [1] float64 on the CPU, 0 at first
void follow_influence(double mean, torch::Tensor& running);

class GradientTopKDictionary : public TopKDictionary {
 public:
  /// @param influence_mean mean of g in training, which "batch-mean" scaling divides by; a row's code then depends on no other row
  GradientTopKDictionary(AutoencoderWeights weights, int64_t k, GradientSelection selection, double influence_mean, Json config);

  std::string architecture() const override { return "gsae"; }
  using TopKDictionary::encode;
  /// @throws Error if x and gradients are not both [n, width], or hold NaN
  SparseCodes encode(const torch::Tensor& x, const torch::Tensor& gradients) const override;

 protected:
  Json settings() const override;
  SparseCodes select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& gradients, int64_t begin) const override;

 private:
  GradientSelection selection_;
  double influence_mean_;
  ScreenedMatrix decoder_;
};

class GradientTopKLearner : public TopKLearner {
 public:
  GradientTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;

 protected:
  void select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) override;
  void refresh(int64_t latent) override;

 private:
  ScreenedMatrix decoder_;
  torch::Tensor influence_mean_;  // [1] float64, running mean over steps of g over the first rows of the batch and all latents
};

std::shared_ptr<Dictionary> load_gradient_top_k(const Json& config, const SafetensorsFile& file);
std::unique_ptr<DictionaryLearner> learn_gradient_top_k(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
