#pragma once
// Trains any Network: Muon for its matrices, AdamW for the rest, one schedule for both, and a checkpoint that a killed or interrupted run
// goes on from to the same result, bit for bit on one thread.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/network/adamw.h"
#include "sememe/network/muon.h"
#include "sememe/network/network.h"

namespace sememe {

struct TrainerOptions {
  int64_t steps = 1000;
  int64_t parts = 1;                  ///< batches whose gradients are averaged in one step
  double matrix_learning_rate = 0.004;  ///< Muon's
  double learning_rate = 0.006;         ///< AdamW's
  double weight_decay = 0.0;
  double clip = 1.0;            ///< largest norm of the whole gradient; 0 does not clip
  int64_t warmup_steps = 0;     ///< linear from 0
  double decay_fraction = 0.6;  ///< the last part of the steps, in which the rates fall linearly to 0
  std::filesystem::path checkpoint;  ///< folder; empty: none
  int64_t checkpoint_steps = 0;      ///< 0: by time only
  double checkpoint_seconds = 120;
  bool resume = false;   ///< go on from `checkpoint`, from the start where there is none
  Json settings;         ///< what must be the same to resume, e.g. the recipe; kept in the checkpoint and compared
  std::string label = "train";
  int64_t rows_per_step = 0;  ///< for the progress line: tokens in one step; 0 counts steps
  std::string row = "tokens";
  /// Whether Muon trains this parameter. Default: two-dimensional and not an embedding, a position table or a head.
  std::function<bool(const std::string& name, const torch::Tensor& parameter)> is_matrix;
};

/// The rate at `step` (0 .. steps - 1) as a fraction of the full rate.
double schedule(const TrainerOptions& options, int64_t step);

struct TrainingResult {
  std::vector<double> losses;  ///< one a step, before the step
  double seconds = 0;          ///< over all runs, without what a kill lost
};

/// The batch of a step's part. It must depend on nothing but the two numbers, so that a resumed run needs no data state.
using BatchSource = std::function<Batch(int64_t step, int64_t part)>;

/// Minimises network.loss().
/// @throws Error naming the step and the learning rate if the loss or the gradient is not finite (the last checkpoint stays)
/// @throws Interrupted on SIGINT, after the step is finished and its checkpoint written
TrainingResult train(Network& network, const BatchSource& next_batch, const TrainerOptions& options);

}  // namespace sememe
