#pragma once
// What learners share whose loss is written down as in its paper and differentiated by LibTorch: initial weights, Adam, warm-ups, unit
// atoms, the count of dead latents, checkpoints. An architecture adds its loss and how its parameters become a Dictionary. Loss and
// gradients are summed over parts of the batch, so that what autograd keeps for the backward pass is of one part's [rows, latents] at a
// time. Parameters are on options.device.

#include <cmath>

#include "sememe/features/autoencoder_weights.h"
#include "sememe/features/learner.h"
#include "sememe/kernels/adam.h"

namespace sememe {

/// The constants of an architecture.
struct AutogradSettings {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  ///< of Adam
  bool unit_atoms = true;         ///< decoder rows keep norm 1: the gradient's part along them is taken out
  double atom_norm = 1.0;         ///< of decoder rows at the beginning
  double largest_gradient = 0.0;  ///< gradients of a larger norm, all together, are scaled down to it; 0 is no limit
};

class AutogradLearner : public DictionaryLearner {
 public:
  StepReport step(const ActivationRows& rows, double learning_rate) override;
  NamedTensors state() const override;
  void restore(const SafetensorsFile& file) override;

  /// Loss of a batch and its gradients with respect to parameters(), which are left as they are.
  StepReport compute_gradients(const ActivationRows& rows);
  const NamedTensors& parameters() const { return parameters_; }
  /// In the order of parameters().
  const NamedTensors& gradients() const { return gradients_; }
  /// [width] Inputs are multiplied by this inside, so that the mean norm of each part of a row is sqrt(its width).
  const torch::Tensor& input_scale() const { return input_scale_; }
  /// A part has at most so many rows; by default as many as make 256 MiB of [rows, latents].
  void limit_part(int64_t rows) { part_ = rows; }
  /// How many rows ago each latent last fired, [latents] int64.
  const torch::Tensor& rows_since_fired() const { return rows_since_fired_; }

 protected:
  AutogradLearner(const LearnerOptions& options, const ActivationStatistics& statistics, const AutogradSettings& settings);

  struct Terms {
    torch::Tensor loss;   ///< a number
    torch::Tensor codes;  ///< [rows, latents]
    torch::Tensor error;  ///< [rows, width] x - x^
  };
  /// The terms of some rows of a batch; the batch's loss is their mean, weighed by rows.
  /// @param x         [rows, width] scaled
  /// @param gradients [rows, width] of the model's loss with respect to the scaled x, or undefined
  virtual Terms terms(const torch::Tensor& x, const torch::Tensor& gradients) = 0;
  /// Called before terms() with the whole batch, for what the loss needs to know of it. Autograd is off.
  /// @param x, gradients [batch, width] as in terms()
  virtual void begin_batch(const torch::Tensor& x, const torch::Tensor& gradients) {}
  /// Called after each step, e.g. to begin latents anew.
  /// @param x, error [batch, width]
  virtual void after_step(const torch::Tensor& x, const torch::Tensor& error) {}
  int64_t part() const { return part_; }

  /// (x - decoder_bias) encoder^T, without the encoder's bias. -> [batch, latents]
  torch::Tensor encoder_products(const torch::Tensor& x) const;
  /// codes decoder + decoder_bias
  torch::Tensor reconstruct(const torch::Tensor& codes) const;
  /// Of a number that each rank has of its own rows, the mean over those of the whole batch.
  double mean_over_ranks(double own) const;
  /// The rows of the whole batch. own [rows, n] -> [batch, n]
  torch::Tensor rows_of_all_ranks(const torch::Tensor& own) const;
  /// Mean squared distance of scaled rows from their mean, in the columns that are reconstructed: all, but for a transcoder.
  double variance() const { return variance_; }
  void set_variance(double variance) { variance_ = variance; }
  /// In constructors, after the shared four.
  torch::Tensor add_parameter(const std::string& name, const torch::Tensor& initial);

  /// In constructors: the sparsity term weighs options.sparsity; where that is not given it begins with `beginning`, and each step takes it
  /// in proportion nearer to where L0 is options.target_l0, or 16 (at most half the latents).
  /// @throws UsageError for a weight or target that cannot be
  void set_sparsity(double beginning);
  /// The weight of the sparsity term now. It rises linearly over the first tenth of the run, at most 2,000 steps.
  double sparsity() const { return std::exp(log_sparsity_.item<double>()) * sparsity_share(); }
  double sparsity_share() const;
  /// [latents] bool: did not fire for options_.dead_after rows
  torch::Tensor dead() const { return rows_since_fired_ >= options_.dead_after; }
  int64_t steps_done() const { return step_.item<int64_t>(); }
  /// The rate rises anew from 0, over a twentieth of the run, at most 1,000 steps.
  void restart_rate() { rate_began_.copy_(step_); }
  /// The moments that belong to parameters()[index].
  std::pair<torch::Tensor, torch::Tensor> moments(size_t index) { return {first_moments_[index], second_moments_[index]}; }

  struct Unscaled {
    AutoencoderWeights weights;  ///< for inputs as step() gets them, atoms of norm 1
    torch::Tensor code_unit;     ///< [latents] what codes, and thresholds with them, were multiplied by
  };
  Unscaled unscaled() const;

  LearnerOptions options_;
  AutoencoderWeights weights_;

 private:
  void initialize(const ActivationStatistics& statistics);
  void limit_gradients();
  void follow_target(double l0);
  void add_part(int64_t begin, int64_t count, const torch::Tensor& gradients, StepReport& report);
  void apply_adam(double learning_rate);
  torch::Tensor redrawn_atom() const;
  void apply_adam(const kernels::AdamStep& adam, size_t parameter);
  void apply_adam_by_tensors(const kernels::AdamStep& adam, size_t parameter);
  void average_gradients();

  AutogradSettings settings_;
  torch::Tensor input_scale_;
  double variance_ = 1.0;
  NamedTensors parameters_, gradients_;
  std::vector<torch::Tensor> first_moments_, second_moments_;
  torch::Tensor rows_since_fired_, step_, rate_began_, log_sparsity_;
  double target_l0_ = 0.0;  // 0 keeps the weight
  int64_t part_;
  torch::Tensor x_, fired_;            // of the last batch: [batch, width] scaled, [latents] bool
  std::vector<torch::Tensor> errors_;  // x - x^ of its parts
};

/// L0 to aim at: options.target_l0, or 16, at most half the latents. @throws UsageError for one that cannot be
double target_l0_of(const LearnerOptions& options);

/// @throws UsageError naming the option unless it is empty, or finite and at least 0
void check_weight(const char* option, const std::optional<double>& weight);

}  // namespace sememe
