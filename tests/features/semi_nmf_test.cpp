#include "sememe/features/semi_nmf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/features/semi_nmf_dictionary.h"

namespace sememe {
namespace {

torch::Tensor random_rows(int64_t rows, int64_t width, int64_t seed = 1) {
  torch::manual_seed(seed);
  return torch::randn({rows, width});
}

/// The published iteration as it is written down, in double, with the residual formed.
std::vector<double> reference_losses(const torch::Tensor& activations, torch::Tensor g, double kept, int64_t iterations) {
  const torch::Tensor a = activations.t().to(torch::kDouble);  // [width, rows]
  g = g.to(torch::kDouble);
  const int64_t features = g.size(1), count = static_cast<int64_t>(std::ceil(kept * static_cast<double>(a.size(0))));
  std::vector<double> losses;
  for (int64_t iteration = 0; iteration < iterations; ++iteration) {
    torch::Tensor f = torch::mm(torch::mm(a, g), torch::linalg_inv(torch::mm(g.t(), g) + 1e-6 * torch::eye(features, torch::kDouble)));
    const torch::Tensor least = std::get<0>(f.abs().topk(count, 0)).select(0, count - 1);
    f = torch::where(f.abs() >= least, f, 0.0);
    const torch::Tensor norms = g.norm(2, {0});
    g = g / norms;
    f = f * norms;
    const torch::Tensor p = torch::mm(a.t(), f), q = torch::mm(f.t(), f);
    const auto up = [](const torch::Tensor& m) { return (m.abs() + m) / 2; };
    const auto down = [](const torch::Tensor& m) { return (m.abs() - m) / 2; };
    g = g * ((up(p) + torch::mm(g, down(q))) / (down(p) + torch::mm(g, up(q)) + 1e-6)).sqrt();
    losses.push_back((a - torch::mm(f, g.t())).square().sum().item<double>());
  }
  return losses;
}

TEST(SemiNmf, FollowsThePublishedIteration) {
  const torch::Tensor rows = random_rows(60, 40);
  for (const double kept : {1.0, 0.2}) {
    const torch::Tensor beginning = torch::rand({60, 5}) + 0.01;
    const SemiNmfOptions options{.features = 5, .kept = kept, .coefficients = beginning, .iterations = 30, .patience = 1000};
    const std::vector<double> expected = reference_losses(rows, beginning, kept, 30);
    const SemiNmf found = semi_nmf(rows, options);
    ASSERT_EQ(found.losses.size(), 30u);
    for (size_t i = 0; i < 30; ++i) EXPECT_NEAR(found.losses[i] / expected[i], 1.0, 1e-5) << kept << ", iteration " << i;
  }
}

TEST(SemiNmf, FollowsThePublishedIterationOverManyRowsAndUnits) {
  const torch::Tensor rows = random_rows(1100, 500).relu(), beginning = torch::rand({1100, 7}) + 0.01;
  for (const double kept : {1.0, 0.3, 0.02}) {
    const SemiNmfOptions options{.features = 7, .kept = kept, .coefficients = beginning, .iterations = 8, .patience = 1000};
    const std::vector<double> expected = reference_losses(rows, beginning, kept, 8);
    const SemiNmf found = semi_nmf(rows, options);
    for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(found.losses[i] / expected[i], 1.0, 1e-6) << kept << ", iteration " << i;
  }
}

TEST(SemiNmf, ThreadsDoNotChangeABit) {
  const torch::Tensor rows = random_rows(1100, 200);
  const SemiNmfOptions options{.features = 9, .kept = 0.05, .iterations = 20};
  const int threads = thread_count();
  set_thread_count(1);
  const SemiNmf alone = semi_nmf(rows, options);
  set_thread_count(3);
  const SemiNmf together = semi_nmf(rows, options);
  set_thread_count(threads);
  EXPECT_EQ(alone.losses, together.losses);
  EXPECT_TRUE(torch::equal(alone.features, together.features));
  EXPECT_TRUE(torch::equal(alone.coefficients, together.coefficients));
}

TEST(SemiNmf, WithoutWinnersTheLossNeverRises) {
  const SemiNmf found = semi_nmf(random_rows(80, 30), {.features = 8, .kept = 1.0, .iterations = 200, .patience = 1000});
  for (size_t i = 1; i < found.losses.size(); ++i) EXPECT_LE(found.losses[i], found.losses[i - 1] * (1 + 1e-6)) << i;
}

TEST(SemiNmf, KeepsTheFactorsOfLeastLoss) {
  const torch::Tensor rows = random_rows(50, 40);
  const SemiNmf found = semi_nmf(rows, {.features = 6, .kept = 0.1, .iterations = 60, .patience = 1000});
  const double loss = (rows - torch::mm(found.coefficients, found.features)).square().sum(torch::kDouble).item<double>();
  EXPECT_NEAR(loss / *std::min_element(found.losses.begin(), found.losses.end()), 1.0, 1e-4);
  EXPECT_NEAR(found.losses[found.best], loss, 1e-3 * loss);
  EXPECT_GE(found.coefficients.min().item<float>(), 0.0f);
  EXPECT_LE((found.features != 0).sum(1).max().item<int64_t>(), 4);
}

/// A = G0 F0 + 5 % noise: 10 features of 10 non-zero units of 200, over 2,000 rows (the specification's planted data).
TEST(SemiNmf, WinnersFindPlantedFeaturesWhereAllUnitsDoNot) {
  torch::manual_seed(3);
  torch::Tensor truth = torch::zeros({10, 200});
  for (int64_t i = 0; i < 10; ++i) {
    const torch::Tensor units = torch::randperm(200).narrow(0, 0, 10), values = torch::randn({10});
    truth[i].index_put_({units}, values + values.sign());
  }
  const torch::Tensor coefficients = (torch::rand({2000, 10}) < 0.2).to(torch::kFloat) * (0.2 + torch::rand({2000, 10}));
  torch::Tensor rows = torch::mm(coefficients, truth);
  rows += 0.05 * rows.square().mean().sqrt() * torch::randn_like(rows);
  const auto mean_cosine = [&](const torch::Tensor& features) {
    const auto unit = [](const torch::Tensor& m) { return m / m.norm(2, {1}, true).clamp_min(1e-12); };
    return std::get<0>(torch::mm(unit(truth), unit(features).t()).max(1)).mean().item<double>();
  };
  double winners = 0;
  double least = std::numeric_limits<double>::infinity();
  for (uint64_t seed = 1; seed <= 3; ++seed) {  // the best of three by loss
    const SemiNmf found = semi_nmf(rows, {.features = 10, .kept = 0.05, .iterations = 600, .patience = 600, .seed = seed});
    if (found.losses[found.best] < least) {
      least = found.losses[found.best];
      winners = mean_cosine(found.features);
    }
  }
  const double all = mean_cosine(semi_nmf(rows, {.features = 10, .kept = 1.0, .iterations = 600, .patience = 600}).features);
  EXPECT_GE(winners, 0.95);
  EXPECT_LT(all, 0.8);
}

TEST(SemiNmf, EveryBeginningWorksAndTheSameSeedGivesTheSameFactors) {
  const torch::Tensor rows = random_rows(60, 20);
  for (const char* beginning : {"random", "svd", "kmeans"}) {
    const SemiNmfOptions options{.features = 4, .kept = 0.5, .beginning = beginning, .iterations = 50};
    const SemiNmf one = semi_nmf(rows, options), two = semi_nmf(rows, options);
    EXPECT_TRUE(torch::equal(one.features, two.features)) << beginning;
    EXPECT_LT(one.losses[one.best], rows.square().sum().item<double>()) << beginning;
  }
}

TEST(SemiNmf, CoefficientsOfKnownRowsAreFoundAgain) {
  const torch::Tensor features = random_rows(4, 30, 5), coefficients = torch::rand({20, 4}) + 0.1;
  const torch::Tensor found = semi_nmf_coefficients(torch::mm(coefficients, features), features, 2000);
  EXPECT_TRUE(torch::allclose(found, coefficients, 1e-2, 1e-2));
}

TEST(SemiNmf, AsADictionaryItSavesLoadsAndReconstructs) {
  const torch::Tensor rows = random_rows(100, 24);
  const SemiNmf found = semi_nmf(rows, {.features = 12, .kept = 1.0, .iterations = 300});
  const SemiNmfDictionary dictionary(found.features, Json::object());
  const SparseCodes codes = dictionary.encode(rows);
  EXPECT_EQ(codes.rows(), 100);
  const double left = (rows - dictionary.decode(codes)).square().sum().item<double>();
  EXPECT_LT(left, 1.2 * found.losses[found.best] + 1e-3);
}

TEST(SemiNmf, IsLoadedAsItWasSaved) {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / fmt::format("semi_nmf_test-{}", getpid());
  std::filesystem::create_directories(folder);
  const torch::Tensor features = random_rows(3, 8);
  SemiNmfDictionary(features, Json::object()).save(folder);
  EXPECT_TRUE(torch::equal(load_dictionary(folder)->atoms(), features));
  std::filesystem::remove_all(folder);
}

TEST(SemiNmf, AHierarchyStartsFromTheFeaturesBelow) {
  SemiNmfOptions options{.kept = 1.0, .iterations = 100};
  const std::vector<SemiNmf> levels = semi_nmf_hierarchy(random_rows(100, 40), {10, 5}, options);
  ASSERT_EQ(levels.size(), 2u);
  EXPECT_EQ(levels[1].coefficients.size(0), 10);
  EXPECT_TRUE(torch::allclose(levels[0].features.norm(2, {1}), torch::ones({10}), 1e-4, 1e-4));
  EXPECT_THROW(semi_nmf_hierarchy(random_rows(100, 40), {5, 10}, options), UsageError);
}

TEST(SemiNmf, WhatCannotBeIsRefusedByName) {
  const torch::Tensor rows = random_rows(20, 10);
  EXPECT_THROW(semi_nmf(rows, {.features = 11}), UsageError);
  EXPECT_THROW(semi_nmf(rows, {.features = 2, .kept = 0.0}), UsageError);
  EXPECT_THROW(semi_nmf(rows, {.features = 2, .beginning = "magic"}), UsageError);
  EXPECT_THROW(semi_nmf(torch::zeros({20, 10}), {.features = 2}), Error);
  for (const float scale : {1e30f, 3e37f}) EXPECT_THROW(semi_nmf(rows * scale, {.features = 2}), Error) << scale;
  torch::Tensor bad = rows.clone();
  bad[7][3] = NAN;
  try {
    semi_nmf(bad, {.features = 2});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("row 7"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sememe
