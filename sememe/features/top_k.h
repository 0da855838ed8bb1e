#pragma once
// TopK dictionaries: the k largest pre-activations of each input are its code (Gao et al. 2024, "Scaling and evaluating sparse
// autoencoders"). With x an input row, u = (x - decoder_bias) encoder^T + encoder_bias; the code f keeps max(u, 0) at the k
// selected latents; the reconstruction is f decoder + decoder_bias. Forward and backward are written by hand: besides the
// pre-activations nothing of size [batch, latents] exists.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sememe/features/autoencoder.h"
#include "sememe/features/learner.h"
#include "sememe/features/sparse_codes.h"

namespace sememe {

class TopKDictionary : public Autoencoder {
 public:
  /// @param config what save() writes besides architecture, sizes and k, e.g. where the dictionary was learnt
  TopKDictionary(AutoencoderWeights weights, int64_t k, Json config);

  std::string architecture() const override { return "topk"; }
  using Dictionary::encode;
  /// @throws Error if x is not [n, width] or holds NaN
  SparseCodes encode(const torch::Tensor& x) const override;
  int64_t k() const { return k_; }

 protected:
  Json settings() const override { return {{"k", k_}}; }

 private:
  int64_t k_;
};

/// The key "k" of a config. @throws Error naming the file unless 1 <= k <= latents
int64_t load_k(const Json& config, const SafetensorsFile& file, int64_t latents);

/// Trains by Adam with unit decoder rows, and AuxK against dead latents.
class TopKLearner : public DictionaryLearner {
 public:
  TopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  StepReport step(const ActivationRows& rows, double learning_rate) override;
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override;

  /// Loss of a batch and its gradients with respect to weights(), which are left as they are:
  /// sum ||x - x^||^2 / (batch variance) + 1/32 AuxK, and 1/8 of the first term with 4 k codes if options.multi_top_k. The codes' choice
  /// is a constant.
  StepReport compute_gradients(const ActivationRows& rows);
  const AutoencoderWeights& weights() const { return weights_; }
  const AutoencoderWeights& gradients() const { return gradients_; }
  /// Inputs are multiplied by this inside, so that their mean norm is sqrt(width).
  double input_scale() const { return input_scale_; }
  /// How many rows ago each latent was last selected, [latents] int64.
  const torch::Tensor& rows_since_selected() const { return rows_since_selected_; }

 protected:
  /// The codes of a batch, of about k latents a row, from `centred` = x - decoder_bias [batch, width].
  virtual void select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes);
  /// Fills pre_activations_.
  void compute_pre_activations(const torch::Tensor& centred);

  struct Reconstruction {
    double squares;           ///< what was added to the loss, over `weight`
    torch::Tensor error;      ///< [batch, width] x - x^
    torch::Tensor to_output;  ///< [width] gradient of what was added with respect to the bias of the output
  };
  /// Decodes codes and adds the gradients of weight * sum ||x - x^||^2 to all but the decoder's bias.
  virtual Reconstruction add_reconstruction(const SelectedCodes& codes, const torch::Tensor& x, const torch::Tensor& centred, double weight);

  /// How the rows of this batch are to be ranked; what it points to lives until the next call.
  virtual kernels::TopKOptions selection(const ActivationRows& rows);
  /// The weights for inputs that are not scaled.
  AutoencoderWeights unscaled_weights() const;

  LearnerOptions options_;
  AutoencoderWeights weights_, gradients_;
  torch::Tensor pre_activations_;  // [batch, latents]
  SelectedCodes codes_;            // of the last batch

 private:
  void initialize(const ActivationStatistics& statistics);
  void match_norms();
  double add_auxiliary(const torch::Tensor& centred, const torch::Tensor& error);
  std::vector<int64_t> dead_latents() const;
  void count_selected();
  void apply_adam(double learning_rate);

  double input_scale_ = 1.0, variance_ = 1.0;
  AutoencoderWeights first_moments_, second_moments_;
  torch::Tensor rows_since_selected_, step_;
  torch::Tensor reconstruction_;
  SelectedCodes auxiliary_codes_, more_codes_;
};

std::shared_ptr<Dictionary> load_top_k(const Json& config, const SafetensorsFile& file);
std::unique_ptr<DictionaryLearner> learn_top_k(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
