#include "sememe/features/kmeans.h"

#include <gtest/gtest.h>

#include <limits>

#include "sememe/features/top_k.h"
#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

/// Rows around 16 directions, at gains from 0.5 to 1.5, a constant away from 0.
struct Clusters {
  torch::Tensor directions, rows;

  Clusters() {
    torch::manual_seed(2);
    directions = torch::nn::functional::normalize(torch::randn({16, 24}));
    const torch::Tensor gains = torch::rand({6000, 1}) + 0.5;
    rows = directions.index_select(0, torch::randint(16, {6000})) * gains + torch::randn({6000, 24}) * 0.03;
    rows += 2.0 - directions.mean(0);
  }
  KMeansLearner learner(int64_t latents, int64_t dead_after = 1000) const {
    return KMeansLearner({.width = 24, .latents = latents, .dead_after = dead_after}, measure_activations(rows));
  }
  void learn(KMeansLearner& learner, int64_t steps) const {
    for (int64_t step = 0; step < steps; ++step) learner.step({rows.narrow(0, step % 30 * 200, 200), {}}, 0.0);
  }
};

TEST(KMeansLearner, FindsPlantedClusters) {
  // Twice as many centroids, since k-means of as many ends where two share a cluster and another has none.
  const Clusters clusters;
  KMeansLearner learner = clusters.learner(32);
  clusters.learn(learner, 60);
  const torch::Tensor centre = measure_activations(clusters.rows).median;
  const torch::Tensor planted = torch::nn::functional::normalize(clusters.directions + 2.0 - clusters.directions.mean(0) - centre);
  EXPECT_GT(std::get<0>(torch::mm(planted, learner.centroids().t()).max(1)).min().item<double>(), 0.97);
  const StepReport report = learner.step({clusters.rows, {}}, 0.0);
  EXPECT_LT(report.fvu, 0.05);
  EXPECT_GT(report.l0, 0.99);
  EXPECT_EQ(report.dead, 0);
}

TEST(KMeansLearner, CodesAreTheNearestCentroidAndTheProjectionOnIt) {
  const Clusters clusters;
  KMeansLearner learner = clusters.learner(16);
  clusters.learn(learner, 10);
  const auto dictionary = learner.dictionary(Json::object());
  const SparseCodes codes = dictionary->encode(clusters.rows);
  const torch::Tensor products = torch::mm(clusters.rows - measure_activations(clusters.rows).median, learner.centroids().t());
  const auto [values, nearest] = products.max(1);
  ASSERT_GT(values.min().item<double>(), 0.0);
  EXPECT_TRUE(torch::equal(codes.offsets, torch::arange(6001)));
  EXPECT_TRUE(torch::equal(codes.atoms, nearest.to(torch::kInt)));
  EXPECT_LT((codes.values - values).abs().max().item<double>(), 1e-5);
  EXPECT_TRUE(torch::equal(dictionary->atoms(), learner.centroids()));
}

TEST(KMeansLearner, ClustersBeginAsRowsComeWhereTheBatchIsSmaller) {
  const Clusters clusters;
  KMeansLearner learner = clusters.learner(32);
  EXPECT_EQ(learner.step({clusters.rows.narrow(0, 0, 20), {}}, 0.0).dead, 12);
  EXPECT_TRUE(contains(error_from([&] { learner.dictionary(Json::object()); }), {"kmeans", "20 of 32 clusters", "--tokens", "--latents"}));
  EXPECT_EQ(learner.step({clusters.rows.narrow(0, 20, 20), {}}, 0.0).dead, 0);
  EXPECT_EQ(learner.dictionary(Json::object())->size(), 32);
}

TEST(KMeansLearner, EmptyClustersBeginAnewWhereTheErrorIs) {
  const Clusters clusters;
  KMeansLearner learner = clusters.learner(16, 400);
  clusters.learn(learner, 30);
  // Rows leave all directions but one, and a new one comes.
  torch::manual_seed(3);
  const torch::Tensor kept = clusters.rows.narrow(0, 0, 1).expand({100, 24});
  const torch::Tensor fresh = torch::nn::functional::normalize(torch::randn({1, 24})) * 5.0;
  const torch::Tensor centre = measure_activations(clusters.rows).median;
  for (int step = 0; step < 6; ++step) learner.step({torch::cat({kept, fresh + centre + torch::randn({100, 24}) * 0.2}), {}}, 0.0);
  EXPECT_GT(torch::mv(learner.centroids(), fresh[0] / 5.0).max().item<double>(), 0.98);
}

TEST(KMeansLearner, ExplainsLessThanTopKOfSeveralLatents) {
  const HeldOut ours = measure_held_out(*learn_planted("kmeans", {}, 400, 0.0)->dictionary(Json::object()));
  const HeldOut top_k = measure_held_out(*learn_planted("topk", {.k = 4}, 400, 1e-2)->dictionary(Json::object()));
  RecordProperty("figures", fmt::format("kmeans l0 {:.2f} explained {:.3f}, topk l0 {:.2f} explained {:.3f}", ours.l0,
                                        ours.explained_variance, top_k.l0, top_k.explained_variance));
  EXPECT_LE(ours.l0, 1.0);
  EXPECT_GT(ours.explained_variance, 0.2);
  EXPECT_LT(ours.explained_variance, top_k.explained_variance);
}

TEST(KMeansLearner, RowsThatCannotBeAreRefused) {
  const Clusters clusters;
  KMeansLearner learner = clusters.learner(16);
  learner.step({torch::ones({40, 24}), {}}, 0.0);  // all the same: one direction
  EXPECT_TRUE(contains(error_from([&] { learner.dictionary(Json::object()); }), {"1 of 16 clusters"}));
  torch::Tensor bad = clusters.rows.narrow(0, 0, 8).clone();
  bad[5][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { learner.step({bad, {}}, 0.0); }), {"row 5", "NaN"}));
  EXPECT_TRUE(contains(error_from([&] { learner.step({torch::ones({4, 23}), {}}, 0.0); }), {"width 24", "[4, 23]"}));
}

}  // namespace
}  // namespace sememe
