#include "sememe/features/learner.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

double summed_distance(const torch::Tensor& rows, const torch::Tensor& point) {
  return (rows.to(torch::kDouble) - point.to(torch::kDouble)).norm(2, {1}).sum().item<double>();
}

/// The least summed distance to points of a plane, by looking at ever finer grids.
double least_summed_distance(const torch::Tensor& rows) {
  torch::Tensor centre = rows.to(torch::kDouble).mean(0);
  double least = summed_distance(rows, centre);
  for (double step = 8.0; step > 1e-4; step /= 1.5) {
    const torch::Tensor grid = torch::cartesian_prod({torch::arange(-3, 4), torch::arange(-3, 4)}).to(torch::kDouble) * step + centre;
    const torch::Tensor sums = torch::cdist(grid, rows.to(torch::kDouble)).sum(1);
    if (sums.min().item<double>() >= least) continue;
    least = sums.min().item<double>();
    centre = grid[sums.argmin()];
  }
  return least;
}

RC_GTEST_PROP(GeometricMedian, HasTheLeastSummedDistance, ()) {
  // Whole coordinates: rows coincide with one another and with the mean often.
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const torch::Tensor rows = torch::randint(-4, 5, {*rc::gen::inRange<int64_t>(1, 12), 2}).to(torch::kFloat);
  const double least = least_summed_distance(rows);
  RC_ASSERT(summed_distance(rows, geometric_median(rows)) <= least + 2e-3 * (1.0 + least));
}

TEST(GeometricMedian, IsNotHeldByARowAtTheMean) {
  // The mean, where the search begins, is 2, which is a row; the median is 0.
  const torch::Tensor rows = torch::tensor({0.0f, 0.0f, 0.0f, 2.0f, 8.0f}).unsqueeze(1);
  EXPECT_NEAR(geometric_median(rows).item<double>(), 0.0, 1e-3);
}

TEST(GeometricMedian, OfMostlyOneRowIsThatRow) {
  torch::Tensor rows = torch::ones({50, 3});
  rows[0].fill_(1000.0);
  EXPECT_LT((geometric_median(rows) - 1.0).abs().max().item<double>(), 1e-3);
}

TEST(GeometricMedian, OfEqualRowsIsTheRow) {
  EXPECT_TRUE(torch::equal(geometric_median(torch::full({7, 3}, 2.5)), torch::full({3}, 2.5)));
}

TEST(ActivationStatistics, FollowTheirDefinitions) {
  torch::manual_seed(3);
  const torch::Tensor x = torch::randn({500, 6}) * 2.0 + 30.0, exact = x.to(torch::kDouble);
  const ActivationStatistics statistics = measure_activations(x);
  EXPECT_NEAR(statistics.mean_norm, exact.norm(2, {1}).mean().item<double>(), 1e-4);
  EXPECT_NEAR(statistics.variance, (exact - exact.mean(0)).square().sum(1).mean().item<double>(), 1e-4);
  EXPECT_EQ(statistics.median.sizes(), at::IntArrayRef({6}));
  EXPECT_LT((statistics.median - 30.0).abs().max().item<double>(), 0.5);
}

TEST(ActivationStatistics, EqualRowsAreRefused) {
  for (const double value : {0.0, 1.0, -3.7e4})
    EXPECT_TRUE(contains(error_from([&] { measure_activations(torch::full({50, 3}, value)); }), {"all the same"})) << value;
}

}  // namespace
}  // namespace sememe
