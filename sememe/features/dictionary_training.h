#pragma once
// The training loop that all dictionaries share: shuffled rows, schedule, progress, checkpoints, and the folder in the end.

#include <cstdint>
#include <filesystem>
#include <string>

#include "sememe/base/json.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/learner.h"

namespace sememe {

struct DictionaryTrainingOptions {
  std::string architecture = "topk";
  int64_t latents = 2048;
  int64_t k = 16;
  int64_t tokens = 2'000'000;  ///< rows to train on, over as many epochs as that takes
  int64_t batch = 1024;
  double learning_rate = 0.0;  ///< 0 takes default_learning_rate()
  double decay = 0.3;          ///< last share of the run, in which the rate falls linearly to 0
  int64_t auxiliary_k = -1;    ///< as in LearnerOptions
  int64_t dead_after = 0;      ///< rows; 0 takes the smaller of 10 million and a tenth of the run
  bool drop_sinks = false;     ///< leave out rows whose norm is over 10 times the median
  GradientSelection gradient{};
  uint64_t seed = 1;
  bool resume = false;
  int64_t checkpoint_every = 0;  ///< steps; 0 takes as many as one minute or so needs
};

/// The rate that suits a short run of this many latents: 0.005 / sqrt(latents / 1024), scaled with size as in Gao et al.; chosen on planted
/// directions and on the validation loss of activations of a small language model.
double default_learning_rate(int64_t latents);

/// Trains a dictionary and writes `folder` whole: config.json, dictionary.safetensors, training.json. While it runs its state is
/// in the file `folder` + ".checkpoint"; resuming from it gives the same dictionary, bit for bit on one thread.
/// @return what training.json holds: tokens_per_second, loss, fvu, dead, l0 (means over the last twentieth of the run), curve
/// @throws UsageError for options that cannot be, Error for bad activations or a loss that is not finite, Interrupted once the
///         state is saved after SIGINT
Json train_dictionary(const ActivationStore& store, const DictionaryTrainingOptions& options,
                      const std::filesystem::path& folder);

}  // namespace sememe
