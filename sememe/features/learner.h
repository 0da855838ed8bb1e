#pragma once
// What training a dictionary needs of an architecture: one object that takes batches and becomes a Dictionary.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/rank_grid.h"
#include "sememe/network/tensors.h"

namespace sememe {

/// How g-SAE turns a latent's influence on the loss into a score (arXiv 2411.10397).
struct GradientSelection {
  double beta = 1.0;
  std::string score = "additive";      ///< additive: z (1 + beta g); product: z g
  std::string scaling = "batch-mean";  ///< batch-mean: g is divided by its mean, so that beta has no unit; raw
};

struct LearnerOptions {
  int64_t width = 0;
  std::vector<int64_t> parts{};  ///< widths of the sites whose rows are side by side; empty for one site
  int64_t latents = 0;
  int64_t k = 0;
  uint64_t seed = 1;
  int64_t auxiliary_k = -1;         ///< dead latents that model the error, per row; -1 takes width / 2, 0 turns AuxK off
  int64_t dead_after = 10'000'000;  ///< a latent is dead after this many rows without being selected
  GradientSelection gradient{};
  bool multi_top_k = false;  ///< adds 1/8 of the loss with 4 k codes (Gao et al. 2024, section 4.3)
  int64_t steps = 0;         ///< length of the run, of which warm-ups are shares; 0 if it is not known
  torch::Device device = torch::kCPU;  ///< where it is learnt; those that learn without gradients do so on the CPU

  // Empty takes the architecture's own default.
  std::optional<double> sparsity{};     ///< weight of the sparsity term
  std::optional<double> target_l0{};    ///< L0 that the sparsity term aims at, where its weight is not given
  std::optional<std::string> penalty{};  ///< relu: decoder-norm or classic; jumprelu: l0 or tanh
  std::optional<double> attribution{};  ///< attribution: weight of the latents' influence on the loss
  std::optional<double> unexplained{};  ///< attribution: weight of the error's influence on the loss
  std::optional<std::vector<int64_t>> prefixes{};  ///< matryoshka: numbers of latents, ascending, the last all of them

  RankGrid ranks{};  ///< with whom the work is shared; step() is then collective
};

/// Measured once on a sample, before training.
struct ActivationStatistics {
  double mean_norm = 0.0;   ///< mean Euclidean norm of a row
  double variance = 0.0;    ///< mean over rows of ||x - mean||^2
  torch::Tensor median;     ///< [width] geometric median
  /// Mean norm and variance of each part of the rows, in order; one part if there is one site.
  struct Part {
    int64_t width = 0;
    double mean_norm = 0.0, variance = 0.0;
  };
  std::vector<Part> parts;
};

/// @param sample [rows, width] float32
/// @param parts  as LearnerOptions::parts
/// @throws Error if all rows, or their parts at one site, are the same, or the parts do not add up to the width
ActivationStatistics measure_activations(const torch::Tensor& sample, std::vector<int64_t> parts = {});

/// The point of least summed distance to the rows (Weiszfeld 1937, Vardi & Zhang 2000), float64 inside; at most 100 rounds.
torch::Tensor geometric_median(const torch::Tensor& rows);

/// @throws Error unless rows is [n, width], or naming the first row with a value that is NaN or infinite
void check_rows(const torch::Tensor& rows, int64_t width);

/// Copies the tensors of a checkpoint into those of state().
/// @throws Error naming file and tensor if one is missing or of another shape or type
void restore_tensors(const NamedTensors& state, const SafetensorsFile& file);

struct StepReport {
  double loss = 0.0;
  double fvu = 0.0;  ///< mean squared error of this batch over the variance of the activations
  double l0 = 0.0;
  int64_t dead = 0;
};

/// @throws Error naming step and remedy if the loss is NaN or infinite
void check_loss(double loss, int64_t step);

class DictionaryLearner {
 public:
  virtual ~DictionaryLearner() = default;
  /// One step on rows.activations [batch, width], this rank's share of the batch (and, where the architecture needs them, rows.gradients).
  /// @throws Error if the loss is NaN or infinite; Interrupted from a step of minutes, which then has changed nothing
  virtual StepReport step(const ActivationRows& rows, double learning_rate) = 0;
  /// The dictionary learnt so far, for inputs as they were given to step(). `origin` is kept in its config. Collective; only the first
  /// rank's is whole.
  virtual std::shared_ptr<Dictionary> dictionary(const Json& origin) const = 0;
  /// All that step() changes, for a checkpoint.
  virtual NamedTensors state() const = 0;
  /// Whether this tensor of state() holds one row for each latent of this rank's shard, not of all.
  virtual bool is_sharded(std::string_view name) const { return false; }
  /// From the state of all latents. @throws Error naming file and tensor
  virtual void restore(const SafetensorsFile& file) = 0;
};

}  // namespace sememe
