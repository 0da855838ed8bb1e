#include "sememe/features/similarity.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <set>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

double cost_of(const torch::Tensor& costs, const std::vector<int64_t>& columns) {
  double sum = 0.0;
  for (size_t row = 0; row < columns.size(); ++row)
    sum += static_cast<double>(costs.data_ptr<float>()[static_cast<int64_t>(row) * costs.size(1) + columns[row]]);
  return sum;
}

double least_cost_of_all(const torch::Tensor& costs) {
  std::vector<int64_t> columns(static_cast<size_t>(costs.size(1)));
  std::iota(columns.begin(), columns.end(), 0);
  double least = std::numeric_limits<double>::infinity();
  do {
    double sum = 0.0;
    for (int64_t row = 0; row < costs.size(0); ++row)
      sum += static_cast<double>(costs.data_ptr<float>()[row * costs.size(1) + columns[static_cast<size_t>(row)]]);
    least = std::min(least, sum);
  } while (std::next_permutation(columns.begin(), columns.end()));
  return least;
}

SparseCodes codes_of(const std::vector<std::vector<int32_t>>& rows) {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> atoms;
  for (const auto& row : rows) {
    atoms.insert(atoms.end(), row.begin(), row.end());
    offsets.push_back(static_cast<int64_t>(atoms.size()));
  }
  return {torch::tensor(offsets, torch::kLong), torch::tensor(atoms, torch::kInt), torch::ones({static_cast<int64_t>(atoms.size())})};
}

RC_GTEST_PROP(LeastCostAssignment, IsTheBestOfAllPermutations, ()) {
  const int64_t columns = *rc::gen::inRange<int64_t>(1, 8), rows = *rc::gen::inRange<int64_t>(1, columns + 1);
  // Few distinct costs make many ties, negative ones are as good as others.
  const int most = *rc::gen::element(2, 5, 100000);
  const auto numbers = *rc::gen::container<std::vector<int>>(static_cast<size_t>(rows * columns), rc::gen::inRange(-most, most));
  const torch::Tensor costs = torch::tensor(numbers, torch::kInt).to(torch::kFloat).view({rows, columns}) / 8;
  const std::vector<int64_t> assigned = least_cost_assignment(costs);
  RC_ASSERT(std::set<int64_t>(assigned.begin(), assigned.end()).size() == static_cast<size_t>(rows));
  RC_ASSERT((std::all_of(assigned.begin(), assigned.end(), [&](int64_t column) { return column >= 0 && column < columns; })));
  RC_ASSERT(std::abs(cost_of(costs, assigned) - least_cost_of_all(costs)) < 1e-9);
}

// The property above begins with small sizes and numbers; here every case is as large as all permutations allow.
TEST(LeastCostAssignment, IsTheBestOfAllPermutationsOfSeven) {
  torch::manual_seed(4);
  for (int trial = 0; trial < 300; ++trial) {
    const int64_t rows = 5 + trial % 3;
    // Rows and columns of unequal price, so that the potentials matter; every other trial in steps, so that there are ties.
    torch::Tensor costs = torch::rand({rows, 7}) + torch::rand({rows, 1}) + torch::rand({1, 7});
    if (trial % 2 == 1) costs = (costs * 4).round();
    EXPECT_NEAR(cost_of(costs, least_cost_assignment(costs)), least_cost_of_all(costs), 1e-5) << trial;
  }
}

TEST(LeastCostAssignment, GreedyWouldPayMore) {
  // Row 0 takes column 0 at 1 if it may; then row 1 pays 100.
  EXPECT_EQ(least_cost_assignment(torch::tensor({{1.0f, 2.0f}, {1.0f, 100.0f}})), (std::vector<int64_t>{1, 0}));
}

RC_GTEST_PROP(LeastCostAssignment, FindsAPlantedPermutation, ()) {
  const int64_t size = *rc::gen::inRange<int64_t>(2, 150);
  RandomStream stream(*rc::gen::inRange<uint64_t>(0, 100000), "test");
  const std::vector<int64_t> planted = permutation(size, stream);
  torch::manual_seed(static_cast<uint64_t>(size));
  torch::Tensor costs = torch::rand({size, size + 3});
  for (int64_t row = 0; row < size; ++row) costs[row][planted[static_cast<size_t>(row)]] = -0.01f;
  RC_ASSERT(least_cost_assignment(costs) == planted);
}

TEST(LeastCostAssignment, RefusesWhatHasNoSolution) {
  EXPECT_TRUE(contains(error_from([] { least_cost_assignment(torch::zeros({3, 2})); }), {"3 rows", "2 columns"}));
  torch::Tensor costs = torch::zeros({3, 4});
  costs[1][2] = std::nanf("");
  EXPECT_TRUE(contains(error_from([&] { least_cost_assignment(costs); }), {"row 1", "column 2"}));
}

// Dense costs near 1, as the cosines of learnt atoms give: the search then looks far.
TEST(LeastCostAssignment, TakesAThousandRowsInSeconds) {
  torch::manual_seed(1);
  const torch::Tensor a = torch::randn({1024, 64});
  const auto start = std::chrono::steady_clock::now();
  const MatchedAtoms matched = match_atoms(a, a + 2.0 * torch::randn({1024, 64}));
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 20.0);
  EXPECT_GT(matched.mean_cosine, 0.4);
}

TEST(MatchAtoms, FindsAPermutedScaledNoisyCopy) {
  torch::manual_seed(2);
  const torch::Tensor atoms = torch::randn({60, 32});
  const torch::Tensor order = torch::randperm(60);
  const torch::Tensor copy = (atoms.index({order}) + 0.05 * torch::randn({60, 32})) * (torch::rand({60, 1}) + 0.1);
  const MatchedAtoms matched = match_atoms(copy, atoms);
  for (int64_t i = 0; i < 60; ++i) EXPECT_EQ(matched.partners[static_cast<size_t>(i)], order[i].item<int64_t>());
  EXPECT_GT(matched.mean_cosine, 0.99);
  EXPECT_EQ(matched.above_09, 1.0);
  EXPECT_NEAR(match_atoms(atoms, atoms).mean_cosine, 1.0, 1e-6);
}

TEST(MatchAtoms, AnAtomAndItsNegativeAreDifferent) {
  const torch::Tensor atoms = torch::eye(4);
  EXPECT_NEAR(match_atoms(atoms, -atoms).mean_cosine, 0.0, 1e-7);
  EXPECT_NEAR(nearest_atoms(atoms, -atoms).mean_cosine, 0.0, 1e-7);
}

TEST(MatchAtoms, OfALargerFirstSomeAreLeftOver) {
  const torch::Tensor large = torch::eye(6), small = torch::eye(6).index({torch::tensor({4, 1})});
  const MatchedAtoms from_large = match_atoms(large, small), from_small = match_atoms(small, large);
  EXPECT_EQ(from_large.partners, (std::vector<int64_t>{-1, 1, -1, -1, 0, -1}));
  EXPECT_EQ(from_small.partners, (std::vector<int64_t>{4, 1}));
  EXPECT_EQ(from_large.mean_cosine, 1.0);
  EXPECT_EQ(from_large.above_07, 1.0);
}

TEST(MatchAtoms, TooManyAtomsAreRefusedWithTheirNumber) {
  EXPECT_TRUE(contains(error_from([] { match_atoms(torch::zeros({2, 1}), torch::zeros({kLargestMatching + 1, 1})); }), {"8193", "8192"}));
  EXPECT_TRUE(contains(error_from([] { match_atoms(torch::zeros({2, 1}), torch::zeros({2, 3})); }), {"width 1", "width 3"}));
}

TEST(NearestAtoms, AreCountedEachWay) {
  // Two of the first lean on one of the second; the other of the second is far from both.
  const torch::Tensor first = torch::tensor({{1.0f, 0.0f, 0.0f}, {0.8f, 0.6f, 0.0f}}), second = torch::tensor({{2.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 1.0f}});
  const NearestAtoms there = nearest_atoms(first, second), back = nearest_atoms(second, first);
  EXPECT_NEAR(there.mean_cosine, 0.9, 1e-6);
  EXPECT_EQ(there.above_07, 1.0);
  EXPECT_EQ(there.above_09, 0.5);
  EXPECT_NEAR(back.mean_cosine, 0.5, 1e-6);
  EXPECT_EQ(back.above_09, 0.5);
}

TEST(NearestAtoms, AreTheSameInBlocksAsAtOnce) {
  torch::manual_seed(3);
  const torch::Tensor a = torch::randn({2500, 8}), b = torch::randn({30, 8});
  const auto unit = [](const torch::Tensor& x) { return x / x.norm(2, {1}, true); };
  const double wanted = std::get<0>(torch::mm(unit(a), unit(b).t()).max(1)).mean().item<double>();
  EXPECT_NEAR(nearest_atoms(a, b).mean_cosine, wanted, 1e-6);
}

/// One atom that larger's atoms 0 and 1 are parts of, and one that has none.
struct Splitting : ::testing::Test {
  torch::Tensor smaller = torch::tensor({{1.0f, 0.0f, 0.0f}, {0.0f, 0.0f, 1.0f}});
  torch::Tensor larger = torch::tensor({{0.9f, 0.2f, 0.0f}, {0.9f, -0.2f, 0.0f}, {0.0f, 1.0f, 0.0f}});
};

TEST_F(Splitting, FindsPartsByTheirCosine) {
  const FeatureSplitting splitting(smaller, larger);
  const std::vector<SplitAtom> atoms = splitting.atoms();
  EXPECT_EQ(atoms[0].parts, (std::vector<int64_t>{0, 1}));
  EXPECT_TRUE(atoms[1].parts.empty());
  EXPECT_EQ(splitting.summary()["atoms_split"], 1);
  EXPECT_EQ(splitting.summary()["largest"], 2);
  EXPECT_FALSE(splitting.summary().contains("nested"));
  EXPECT_TRUE(FeatureSplitting(smaller, larger, 0.99).atoms()[0].parts.empty());
}

TEST_F(Splitting, PartsThatFireInsideAreNested) {
  FeatureSplitting splitting(smaller, larger);
  splitting.add(codes_of({{0}, {0, 1}}), codes_of({{0}, {1, 2}}));
  splitting.add(codes_of({{0}, {1}, {}}), codes_of({{2}, {2}, {}}));
  const SplitAtom atom = splitting.atoms()[0];
  EXPECT_EQ(atom.inside, (std::vector<std::optional<double>>{1.0, 1.0}));
  EXPECT_NEAR(*atom.covered, 2.0 / 3.0, 1e-12);
  EXPECT_TRUE(atom.nested());
  EXPECT_EQ(splitting.summary()["nested"], 1);
  EXPECT_EQ(splitting.summary()["rows"], 5);
}

TEST_F(Splitting, PartsThatFireElsewhereAreNot) {
  FeatureSplitting splitting(smaller, larger);
  splitting.add(codes_of({{0}, {0}, {1}, {}}), codes_of({{0, 1}, {0}, {1}, {}}));
  const SplitAtom atom = splitting.atoms()[0];
  EXPECT_EQ(atom.inside, (std::vector<std::optional<double>>{1.0, 0.5}));
  EXPECT_EQ(*atom.covered, 1.0);  // both parts in the first row cover it once
  EXPECT_FALSE(atom.nested());
}

TEST_F(Splitting, APartThatNeverFiresSaysNothing) {
  FeatureSplitting splitting(smaller, larger);
  splitting.add(codes_of({{0}}), codes_of({{0}}));
  EXPECT_EQ(splitting.atoms()[0].inside, (std::vector<std::optional<double>>{1.0, std::nullopt}));
  EXPECT_FALSE(splitting.atoms()[0].nested());
  EXPECT_FALSE(splitting.atoms()[1].covered.has_value());
  EXPECT_TRUE(contains(error_from([&] { splitting.add(codes_of({{0}}), codes_of({})); }), {"1 and 0 rows"}));
}

TEST(SupportOverlap, IsTheShareOfUsedUnitsThatBothUse) {
  const torch::Tensor first = torch::tensor({1.0f, -2.0f, 0.0f, 0.0f}), second = torch::tensor({0.0f, 3.0f, 1.0f, 0.0f});
  EXPECT_DOUBLE_EQ(support_overlap(first, second), 1.0 / 3.0);
  EXPECT_DOUBLE_EQ(support_overlap(first, -first), 1.0);
  EXPECT_DOUBLE_EQ(support_overlap(torch::zeros({4}), torch::zeros({4})), 1.0);
}

}  // namespace
}  // namespace sememe
