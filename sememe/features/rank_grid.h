#pragma once
// How the ranks of a run share the training of one dictionary: in a grid of row groups, each of which sees its own rows of every batch, by
// shards, each of which holds its own latents. One shard is data parallelism: every rank holds all latents, and gradients are summed. One
// row group is latent parallelism: every rank sees all rows, and only codes and reconstructions are exchanged.

#include <cstdint>

#include "sememe/ranks/ranks.h"

namespace sememe {

/// Some of a range that ranks share.
struct Share {
  int64_t begin = 0, count = 0;
};

struct RankGrid {
  Ranks all{};
  Ranks latents{};  ///< the ranks that see the same rows and hold other latents
  Ranks rows{};     ///< the ranks that hold the same latents and see other rows

  RankGrid() = default;
  /// @throws UsageError unless `shards` divides the number of ranks
  RankGrid(const Ranks& ranks, int64_t shards);

  Share own_latents(int64_t count) const;
  /// @throws UsageError unless the row groups divide the batch
  Share own_rows(int64_t batch) const;
};

/// What decides how much is exchanged in a step.
struct StepSizes {
  int64_t batch = 0, width = 0, latents = 0, k = 0;
};

/// What each rank gives into the exchanges of one step of a TopK dictionary. With B rows, width w and m latents: reconstructions
/// 4 (B / row groups) w and keys 8 (B / row groups) k where there are several shards, gradients 4 (2 m / shards + 1) w where there are
/// several row groups.
struct StepTraffic {
  double reconstruction_bytes = 0.0, key_bytes = 0.0, gradient_bytes = 0.0;
  int64_t exchanges = 0;
};
StepTraffic traffic_of(const StepSizes& sizes, int64_t row_groups, int64_t shards);

/// A network between n ranks, as a cost: a sum of b bytes takes about log2(n) latency + 2 (n - 1) / n b / bandwidth, as it travels in pieces
/// around the ranks, and keys log2(n) (latency + b / bandwidth), as they travel whole (Thakur et al. 2005).
struct RankNetwork {
  double latency = 0.0;    ///< seconds
  double bandwidth = 0.0;  ///< bytes a second
};
/// Seconds of exchanges in a step.
double exchange_seconds(const StepSizes& sizes, int64_t row_groups, int64_t shards, const RankNetwork& network);

/// The number of shards, among the divisors of `ranks`, with which the fewest bytes are exchanged; more shards where two agree.
int64_t fewest_bytes_shards(const StepSizes& sizes, int64_t ranks);

}  // namespace sememe
