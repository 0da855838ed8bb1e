#include "sememe/features/rank_grid.h"

#include <cmath>

#include "sememe/base/error.h"

namespace sememe {
namespace {

Share share_of(int64_t count, const Ranks& ranks) {
  const int64_t begin = count * ranks.rank() / ranks.size();
  return {begin, count * (ranks.rank() + 1) / ranks.size() - begin};
}

/// How often a piece of a sum travels on average.
double journeys(int64_t ranks) { return 2.0 * static_cast<double>(ranks - 1) / static_cast<double>(ranks); }

}  // namespace

RankGrid::RankGrid(const Ranks& ranks, int64_t shards) : all(ranks) {
  if (shards < 1 || ranks.size() % shards != 0)
    fail_usage("--shards {}: give a number that divides the {} ranks of this run", shards, ranks.size());
  latents = ranks.group(static_cast<int>(ranks.rank() / shards));
  rows = ranks.group(static_cast<int>(ranks.rank() % shards));
}

Share RankGrid::own_latents(int64_t count) const {
  if (count < latents.size()) fail_usage("--shards {}: is more than the {} latents", latents.size(), count);
  return share_of(count, latents);
}

Share RankGrid::own_rows(int64_t batch) const {
  if (batch % rows.size() != 0)
    fail_usage("--batch {}: give a multiple of {}, the number of row groups that share a batch", batch, rows.size());
  return share_of(batch, rows);
}

StepTraffic traffic_of(const StepSizes& sizes, int64_t row_groups, int64_t shards) {
  const auto rows = static_cast<double>(sizes.batch) / static_cast<double>(row_groups);
  const auto width = static_cast<double>(sizes.width), latents = static_cast<double>(sizes.latents) / static_cast<double>(shards);
  StepTraffic traffic;
  if (shards > 1) {
    traffic.reconstruction_bytes = 4.0 * rows * width;
    traffic.key_bytes = 8.0 * rows * static_cast<double>(sizes.k);
    traffic.exchanges += 4;  // keys, reconstruction, the number of dead latents, the encoder's share of the decoder's bias
  }
  if (row_groups > 1) {
    traffic.gradient_bytes = 4.0 * (2.0 * latents + 1.0) * width;
    traffic.exchanges += 7;  // encoder, decoder and both biases, the mean error and its spread, which latents were selected
  }
  if (row_groups * shards > 1) traffic.exchanges += 2;  // the report, the wish to stop
  return traffic;
}

double exchange_seconds(const StepSizes& sizes, int64_t row_groups, int64_t shards, const RankNetwork& network) {
  const StepTraffic traffic = traffic_of(sizes, row_groups, shards);
  const auto halvings = [](int64_t ranks) { return std::log2(static_cast<double>(ranks)); };
  return static_cast<double>(traffic.exchanges) * halvings(row_groups * shards) * network.latency +
         (journeys(shards) * traffic.reconstruction_bytes + halvings(shards) * traffic.key_bytes + journeys(row_groups) * traffic.gradient_bytes) /
             network.bandwidth;
}

int64_t fewest_bytes_shards(const StepSizes& sizes, int64_t ranks) {
  int64_t best = 1;
  double least = INFINITY;
  for (int64_t shards = ranks; shards >= 1; --shards) {
    if (ranks % shards != 0 || shards > sizes.latents || sizes.batch % (ranks / shards) != 0) continue;
    const double bytes = exchange_seconds(sizes, ranks / shards, shards, {.latency = 0.0, .bandwidth = 1.0});
    if (bytes >= least) continue;
    least = bytes;
    best = shards;
  }
  return best;
}

}  // namespace sememe
