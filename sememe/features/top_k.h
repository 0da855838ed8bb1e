#pragma once
// TopK dictionaries: the k largest pre-activations of each input are its code (Gao et al. 2024, "Scaling and evaluating sparse
// autoencoders"). With x an input row, u = (x - decoder_bias) encoder^T + encoder_bias; the code f keeps max(u, 0) at the k
// selected latents; the reconstruction is f decoder + decoder_bias. Forward and backward are written by hand: nothing of size
// [batch, latents] exists, and a latent's gradients live only until Adam has used them.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sememe/features/autoencoder.h"
#include "sememe/features/learner.h"
#include "sememe/features/screening.h"
#include "sememe/features/sparse_codes.h"
#include "sememe/kernels/code_rows.h"

namespace sememe {

class TopKDictionary : public Autoencoder {
 public:
  /// @param config       what save() writes besides architecture, sizes and k, e.g. where the dictionary was learnt
  /// @param architecture the name in the registry under which it was learnt
  TopKDictionary(AutoencoderWeights weights, int64_t k, Json config, std::string architecture = "topk");

  std::string architecture() const override { return architecture_; }
  using Dictionary::encode;
  /// @throws Error if x is not [n, width] or holds NaN
  SparseCodes encode(const torch::Tensor& x) const override;
  int64_t k() const { return k_; }

 protected:
  Json settings() const override { return {{"k", k_}}; }
  SparseCodes select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& gradients, int64_t begin) const override;

  /// By options.score, which for all but kValue looks at gradients [n, width].
  SparseCodes select(const torch::Tensor& x, const torch::Tensor& gradients, const ScreenedMatrix* decoder,
                     const kernels::TopKOptions& options) const;

 private:
  int64_t k_;
  std::string architecture_;
  ScreenedMatrix encoder_;
};

/// The key "k" of a config. @throws Error naming the file unless 1 <= k <= latents
int64_t load_k(const Json& config, const SafetensorsFile& file, int64_t latents);

// The same on every device (tensor_top_k.h): weights of terms of the loss, and the norm below which an atom has no direction.
inline constexpr double kAuxiliaryWeight = 1.0 / 32.0, kMultiTopKWeight = 1.0 / 8.0;
inline constexpr float kLeastAtomNorm = 1e-8f;

/// Trains by Adam with unit decoder rows, and AuxK against dead latents.
class TopKLearner : public DictionaryLearner {
 public:
  TopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  StepReport step(const ActivationRows& rows, double learning_rate) override;
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  bool is_sharded(std::string_view name) const override;
  void restore(const SafetensorsFile& file) override;

  /// Loss of a batch and its gradients with respect to weights(), which are left as they are:
  /// sum ||x - x^||^2 / (batch variance) + 1/32 AuxK, and 1/8 of the first term with 4 k codes if options.multi_top_k. The codes' choice
  /// is a constant.
  StepReport compute_gradients(const ActivationRows& rows);
  const AutoencoderWeights& weights() const { return weights_; }
  const AutoencoderWeights& gradients() const { return gradients_; }
  /// Inputs are multiplied by this inside, so that their mean norm is sqrt(width).
  double input_scale() const { return input_scale_; }
  /// How many rows ago each latent of this shard was last selected, [latents] int64.
  const torch::Tensor& rows_since_selected() const { return rows_since_selected_; }

 protected:
  /// Of the codes of a batch, of about k latents a row, those that are this shard's, from `centred` = x - decoder_bias [batch, width].
  virtual void select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes);
  /// Called by any thread for each latent of the shard whose weights have changed.
  virtual void refresh(int64_t latent) { encoder_.refresh(latent); }
  const ScreenedMatrix& encoder() const { return encoder_; }

  struct Reconstruction {
    double squares;           ///< what was added to the loss, over `weight`
    torch::Tensor error;      ///< [batch, width] x - x^
    torch::Tensor to_output;  ///< [width] gradient of what was added with respect to the bias of the output
  };
  /// What the codes of all shards stand for together.
  void decode_all_shards(const SelectedCodes& codes, bool with_bias, torch::Tensor& reconstruction) const;
  /// Decodes codes and adds the terms of weight * sum ||x - x^||^2 to the loss. The codes must live until the next batch.
  virtual Reconstruction add_reconstruction(const SelectedCodes& codes, const torch::Tensor& x, double weight);
  /// Adds a term of the loss that reads what the codes' atoms sum up to: its gradients reach the encoder and the decoder's rows.
  /// @param output_gradients [batch, width] of the loss with respect to that sum
  void add_term(const SelectedCodes& codes, torch::Tensor output_gradients);

  int64_t steps_done() const { return step_.item<int64_t>(); }
  const Share& shard() const { return shard_; }
  /// The weights of all latents, for inputs that are not scaled; but on the first rank, those of the shard.
  AutoencoderWeights unscaled_weights() const;

  LearnerOptions options_;
  Share shard_;  // the latents that this rank holds, here numbered from 0
  AutoencoderWeights weights_;
  AutoencoderWeights gradients_;  // of single latents only after compute_gradients()
  SelectedCodes codes_;  // of the last batch

 private:
  /// What the gradients of single latents are made of.
  struct Term {
    const SelectedCodes* codes;
    kernels::CodeColumns columns;       // of the codes
    std::vector<float> code_gradients;  // one for each entry of the codes
    torch::Tensor output_gradients;     // [batch, width]
  };

  void initialize(const ActivationStatistics& statistics);
  void match_norms();
  /// Everything of a batch but the gradients of single latents, which its terms_ give.
  StepReport read_batch(const ActivationRows& rows);
  double add_auxiliary(const torch::Tensor& error);
  void select_dead(const std::vector<int64_t>& dead, int64_t k);
  void compute_latent_gradients();
  /// Adds a latent's gradients, [width] each.
  void add_gradients(int64_t latent, float* encoder_gradient, float* decoder_gradient) const;
  std::vector<int64_t> dead_latents() const;
  void count_selected();
  void apply_adam(double learning_rate);

  double input_scale_ = 1.0, variance_ = 1.0;
  AutoencoderWeights first_moments_, second_moments_;
  ScreenedMatrix encoder_;
  torch::Tensor rows_since_selected_, step_;
  torch::Tensor centred_, reconstruction_;
  SelectedCodes auxiliary_codes_, more_codes_;
  std::vector<Term> terms_;
};

std::shared_ptr<Dictionary> load_top_k(const Json& config, const SafetensorsFile& file);
std::unique_ptr<DictionaryLearner> learn_top_k(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
