#pragma once
// TopK dictionaries: the k largest pre-activations of each input are its code (Gao et al. 2024, "Scaling and evaluating sparse
// autoencoders"). With x an input row, u = (x - decoder_bias) encoder^T + encoder_bias; the code f keeps max(u, 0) at the k
// selected latents; the reconstruction is f decoder + decoder_bias. Forward and backward are written by hand: besides the
// pre-activations nothing of size [batch, latents] exists.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "sememe/features/dictionary.h"
#include "sememe/features/learner.h"
#include "sememe/features/sparse_codes.h"

namespace sememe {

/// float32, contiguous.
struct TopKWeights {
  torch::Tensor encoder;       ///< [latents, width]
  torch::Tensor encoder_bias;  ///< [latents]
  torch::Tensor decoder;       ///< [latents, width], rows of norm 1
  torch::Tensor decoder_bias;  ///< [width]
  int64_t k = 0;

  int64_t latents() const { return encoder.size(0); }
  int64_t width() const { return encoder.size(1); }
  static TopKWeights zeros(int64_t latents, int64_t width, int64_t k);
  /// @throws Error naming file, key and tensor
  static TopKWeights load(const Json& config, const SafetensorsFile& file);
  /// The four tensors under `prefix` + their names.
  NamedTensors named(const std::string& prefix = "") const;
};

class TopKDictionary : public Dictionary {
 public:
  /// @param config what save() writes besides architecture and sizes, e.g. where the dictionary was learnt
  TopKDictionary(TopKWeights weights, Json config);

  std::string architecture() const override { return "topk"; }
  int64_t size() const override { return weights_.latents(); }
  int64_t width() const override { return weights_.width(); }
  using Dictionary::encode;
  /// @throws Error if x is not [n, width] or holds NaN
  SparseCodes encode(const torch::Tensor& x) const override;
  torch::Tensor decode(const SparseCodes& codes) const override;
  torch::Tensor atoms() const override { return weights_.decoder; }
  void save(const std::filesystem::path& folder) const override;
  const TopKWeights& weights() const { return weights_; }

 protected:
  /// `select` turns pre-activations [rows, latents] of rows [begin, begin + rows) into codes.
  using Select = std::function<void(const torch::Tensor& pre_activations, int64_t begin, SelectedCodes& codes)>;
  SparseCodes encode_in_parts(const torch::Tensor& x, const Select& select) const;

  TopKWeights weights_;
  Json config_;
};

/// Trains by Adam with unit decoder rows, and AuxK against dead latents.
class TopKLearner : public DictionaryLearner {
 public:
  TopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  StepReport step(const ActivationRows& rows, double learning_rate) override;
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override;

  /// Loss of a batch and its gradients with respect to weights(), which are left as they are:
  /// sum ||x - x^||^2 / (batch variance) + 1/32 AuxK. The codes' choice is a constant.
  StepReport compute_gradients(const ActivationRows& rows);
  const TopKWeights& weights() const { return weights_; }
  const TopKWeights& gradients() const { return gradients_; }
  /// Inputs are multiplied by this inside, so that their mean norm is sqrt(width).
  double input_scale() const { return input_scale_; }
  /// How many rows ago each latent was last selected, [latents] int64.
  const torch::Tensor& rows_since_selected() const { return rows_since_selected_; }

 protected:
  /// How the rows of this batch are to be ranked; what it points to lives until the next call.
  virtual kernels::TopKOptions selection(const ActivationRows& rows);
  /// The weights for inputs that are not scaled.
  TopKWeights unscaled_weights() const;

  LearnerOptions options_;
  TopKWeights weights_;

 private:
  void initialize(const ActivationStatistics& statistics);
  void match_norms();
  double add_auxiliary(const torch::Tensor& centred, const torch::Tensor& error);
  std::vector<int64_t> dead_latents() const;
  void count_selected();
  void apply_adam(double learning_rate);

  double input_scale_ = 1.0, variance_ = 1.0;
  TopKWeights gradients_, first_moments_, second_moments_;
  torch::Tensor rows_since_selected_, step_;
  torch::Tensor pre_activations_, reconstruction_;
  SelectedCodes codes_, auxiliary_codes_;
};

std::shared_ptr<Dictionary> load_top_k(const Json& config, const SafetensorsFile& file);
std::unique_ptr<DictionaryLearner> learn_top_k(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
