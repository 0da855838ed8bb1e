#pragma once
// The learners of top_k.h, gradient_top_k.h, batch_top_k.h and matryoshka.h by tensor operations, for devices that the CPU's kernels do not
// reach. The same first weights, loss, gradients, updates and checkpoints: a run may go on with either. Products with the encoder exist for
// a part of the rows at a time and in float32; gradients are of selected (row, latent) pairs, as everything that is kept of a batch.

#include <torch/torch.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "sememe/features/autoencoder_weights.h"
#include "sememe/features/learner.h"
#include "sememe/features/tensor_codes.h"
#include "sememe/features/tensor_products.h"

namespace sememe {

/// Learns topk, on options.device; the others derive from it in tensor_top_k.cpp.
class TensorTopKLearner : public DictionaryLearner {
 public:
  TensorTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics);

  StepReport step(const ActivationRows& rows, double learning_rate) override;
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override { restore_tensors(state(), file); }

  /// As TopKLearner::compute_gradients().
  StepReport compute_gradients(const ActivationRows& rows);
  const AutoencoderWeights& weights() const { return weights_; }
  const AutoencoderWeights& gradients() const { return gradients_; }
  /// [latents] int64
  const torch::Tensor& rows_since_selected() const { return rows_since_selected_; }
  /// Of so many rows at most products with the encoder exist at a time; by default as many as take 256 MiB.
  void limit_part(int64_t rows) { part_ = rows; }

 protected:
  /// The codes of a batch, from `centred` = x - decoder_bias [batch, width] and the gradients at x [batch, width], which may be undefined.
  virtual SparseCodes select(const torch::Tensor& centred, const torch::Tensor& gradients, int64_t k);

  struct Reconstruction {
    double squares;           ///< what was added to the loss, over `weight`
    torch::Tensor error;      ///< [batch, width] x - x^
    torch::Tensor to_output;  ///< [width] gradient of what was added with respect to the bias of the output
  };
  /// Adds the terms of weight * sum ||x - x^||^2 to the loss.
  virtual Reconstruction add_reconstruction(const SparseCodes& codes, const torch::Tensor& x, double weight);
  /// Adds a term of the loss that reads what the codes' atoms sum up to.
  /// @param output_gradients [batch, width] of the loss with respect to that sum
  void add_term(const SparseCodes& codes, const torch::Tensor& output_gradients);

  /// u of rows [begin, begin + count) of `centred`, [count, latents]
  torch::Tensor pre_activations(const torch::Tensor& centred, int64_t begin, int64_t count) const;
  int64_t part() const { return part_; }
  int64_t steps_done() const { return step_.item<int64_t>(); }
  double input_scale() const { return input_scale_; }
  /// The weights for inputs that are not scaled, on the CPU.
  AutoencoderWeights unscaled_weights() const;

  LearnerOptions options_;
  AutoencoderWeights weights_, gradients_;
  SparseCodes codes_;  // of the last batch

 private:
  std::optional<RowProducts> encoder_;  // of this step
  void initialize(const ActivationStatistics& statistics);
  StepReport read_batch(const torch::Tensor& x, const torch::Tensor& gradients);
  double add_auxiliary(const torch::Tensor& error);
  torch::Tensor dead_latents() const;
  void apply_adam(double learning_rate);

  double input_scale_ = 1.0, variance_ = 1.0;
  int64_t part_;
  AutoencoderWeights first_moments_, second_moments_;
  torch::Tensor rows_since_selected_, step_;
  torch::Tensor centred_;
};

/// A learner by tensor operations on options.device.
/// @param architecture topk, gsae, batchtopk or matryoshka
/// @throws UsageError as the learner on the CPU does
std::unique_ptr<TensorTopKLearner> learn_by_tensors(std::string_view architecture, const LearnerOptions& options,
                                                    const ActivationStatistics& statistics);

}  // namespace sememe
