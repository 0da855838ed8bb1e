#pragma once
// The training loop that all dictionaries share: shuffled rows, schedule, progress, checkpoints, and the folder in the end.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/learner.h"

namespace sememe {

/// Parts of GradientSelection.
struct GradientOptions {
  std::optional<double> beta{};
  std::optional<std::string> score{}, scaling{};
};

struct DictionaryTrainingOptions {
  std::string architecture = "topk";
  int64_t latents = 2048;
  std::optional<int64_t> k{};  ///< 16 if not given; this and the other std::optional are refused where the architecture has no such option
  int64_t tokens = 2'000'000;  ///< rows to train on, over as many epochs as that takes
  int64_t batch = 1024;
  double learning_rate = 0.0;  ///< 0 takes the architecture's share of default_learning_rate()
  double decay = 0.3;          ///< last share of the run, in which the rate falls linearly to 0
  std::optional<int64_t> auxiliary_k{};  ///< as in LearnerOptions
  int64_t dead_after = 0;      ///< rows; 0 takes the smaller of 10 million and a tenth of the run
  bool drop_sinks = false;     ///< leave out rows whose norm is over 10 times the median
  GradientOptions gradient{};
  bool multi_top_k = false;                        ///< these six as in LearnerOptions
  std::optional<double> sparsity{}, target_l0{};
  std::optional<std::string> penalty{};
  std::optional<double> attribution{}, unexplained{};
  std::optional<std::vector<int64_t>> prefixes{};
  int64_t shards = 0;  ///< of the latents, among the ranks of the run (features/rank_grid.h); 0 takes as many as exchange the fewest bytes
  uint64_t seed = 1;
  bool resume = false;
  torch::Device device = torch::kCPU;  ///< a run may be resumed on another
  int64_t checkpoint_every = 0;  ///< steps; 0 takes as many as one minute or so needs
};

/// The rate that suits a short run of this many latents: 0.005 / sqrt(latents / 1024), scaled with size as in Gao et al.; chosen on planted
/// directions and on the validation loss of activations of a small language model.
double default_learning_rate(int64_t latents);

/// Trains a dictionary and writes `folder` whole: config.json, dictionary.safetensors, training.json. While it runs its state is
/// in the file `folder` + ".checkpoint"; resuming from it gives the same dictionary, bit for bit on one thread. The ranks of a run that
/// mpirun started share the work, and the first of them writes; a checkpoint may be continued on another number of ranks.
/// @return what training.json holds: tokens_per_second, loss, fvu, dead, l0 (means over the last twentieth of the run), curve
/// @throws UsageError for options that cannot be, Error for bad activations or a loss that is not finite, Interrupted once the
///         state is saved after SIGINT
Json train_dictionary(const ActivationStore& store, const DictionaryTrainingOptions& options,
                      const std::filesystem::path& folder);

}  // namespace sememe
