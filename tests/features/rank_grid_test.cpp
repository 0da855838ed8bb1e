#include "sememe/features/rank_grid.h"

#include <gtest/gtest.h>

#include <cmath>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr StepSizes kWorkload{.batch = 4096, .width = 768, .latents = 16384, .k = 32};

TEST(RankGrid, ARankAloneHoldsEverything) {
  const RankGrid grid(Ranks(), 1);
  EXPECT_EQ(grid.own_latents(100).count, 100);
  EXPECT_EQ(grid.own_rows(64).count, 64);
  EXPECT_THROW(RankGrid(Ranks(), 2), UsageError);
}

TEST(RankGrid, OneRankExchangesNothing) {
  EXPECT_EQ(exchange_seconds(kWorkload, 1, 1, {.latency = 1.0, .bandwidth = 1.0}), 0.0);
}

TEST(RankGrid, TrafficIsWhatTheFormulasSay) {
  const StepTraffic shards = traffic_of(kWorkload, 1, 4);
  EXPECT_EQ(shards.reconstruction_bytes, 4.0 * 4096 * 768);
  EXPECT_EQ(shards.key_bytes, 8.0 * 4096 * 32);
  EXPECT_EQ(shards.gradient_bytes, 0.0);
  const StepTraffic rows = traffic_of(kWorkload, 4, 1);
  EXPECT_EQ(rows.reconstruction_bytes + rows.key_bytes, 0.0);
  EXPECT_EQ(rows.gradient_bytes, 4.0 * (2.0 * 16384 + 1) * 768);
}

TEST(RankGrid, SumsTravelAtMostTwiceHoweverManyRanksThereAre) {
  const RankNetwork network{.latency = 0.0, .bandwidth = 1.0};
  const double bytes = traffic_of(kWorkload, 64, 1).gradient_bytes;
  EXPECT_NEAR(exchange_seconds(kWorkload, 64, 1, network), 2.0 * 63 / 64 * bytes, 1e-6 * bytes);
  EXPECT_NEAR(exchange_seconds(kWorkload, 2, 1, network), bytes, 1e-6 * bytes);
}

TEST(RankGrid, LatentsAreSharedWhereTheyAreManyAndRowsWhereThoseAre) {
  EXPECT_EQ(fewest_bytes_shards(kWorkload, 2), 2);
  EXPECT_EQ(fewest_bytes_shards({.batch = 65536, .width = 768, .latents = 1024, .k = 32}, 8), 1);
  EXPECT_EQ(fewest_bytes_shards({.batch = 8, .width = 8, .latents = 2, .k = 1}, 8), 2) << "no more shards than latents";
}

}  // namespace
}  // namespace sememe
