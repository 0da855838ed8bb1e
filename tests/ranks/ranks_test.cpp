#include "sememe/ranks/ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "sememe/base/random.h"

// These hold for any number of ranks. Started alone, they are tests of one; ranks_command.py starts them under mpirun.
namespace sememe {
namespace {

const Ranks& all() { return Ranks::of_run(); }
int triangle(int n) { return n * (n + 1) / 2; }

TEST(Ranks, SumsAreOverAllRanks) {
  std::vector<float> values{1.0f, static_cast<float>(all().rank() + 1)};
  std::vector<double> doubles{0.5};
  std::vector<int64_t> counts{all().rank() + 1};
  all().sum(std::span(values));
  all().sum(std::span(doubles));
  all().sum(std::span(counts));
  EXPECT_EQ(values[0], static_cast<float>(all().size()));
  EXPECT_EQ(values[1], static_cast<float>(triangle(all().size())));
  EXPECT_EQ(doubles[0], 0.5 * all().size());
  EXPECT_EQ(counts[0], triangle(all().size()));
}

TEST(Ranks, TheLargestIsOfAllRanks) {
  std::vector<int64_t> values{all().rank(), -all().rank()};
  all().largest(values);
  EXPECT_EQ(values[0], all().size() - 1);
  EXPECT_EQ(values[1], 0);
}

TEST(Ranks, TheLargestKeysOfARowAreThoseOfAllRanksTogether) {
  constexpr int64_t rows = 5, k = 3;
  const auto key = [](int rank, int64_t row, int64_t i) {
    RandomStream stream(7, "keys");
    return stream.at(static_cast<uint64_t>((rank * rows + row) * k + i)) % 40;  // few values, so that many tie, and zeros
  };
  std::vector<uint64_t> own(rows * k);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < k; ++i) own[row * k + i] = key(all().rank(), row, i);
    std::sort(own.begin() + row * k, own.begin() + (row + 1) * k, std::greater<>());
  }
  all().largest_keys(own, k);
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<uint64_t> together;
    for (int rank = 0; rank < all().size(); ++rank)
      for (int64_t i = 0; i < k; ++i) together.push_back(key(rank, row, i));
    std::sort(together.begin(), together.end(), std::greater<>());
    together.resize(k);
    EXPECT_EQ(std::vector<uint64_t>(own.begin() + row * k, own.begin() + (row + 1) * k), together) << "row " << row;
  }
}

TEST(Ranks, TheFirstGathersBlocksOfAnySizeInOrder) {
  const std::vector<std::byte> own(static_cast<size_t>(all().rank()) * 1000, static_cast<std::byte>(all().rank()));
  std::vector<size_t> sizes;
  all().gather(own, [&](std::span<const std::byte> block) {
    for (const std::byte each : block) EXPECT_EQ(each, static_cast<std::byte>(sizes.size()));
    sizes.push_back(block.size());
  });
  EXPECT_EQ(sizes.size(), all().first() ? static_cast<size_t>(all().size()) : 0U);
  for (size_t i = 0; i < sizes.size(); ++i) EXPECT_EQ(sizes[i], i * 1000);
}

TEST(Ranks, GroupsExchangeAmongThemselves) {
  const Ranks group = all().group(all().rank() % 2);
  std::vector<int64_t> members{1};
  group.sum(std::span(members));
  EXPECT_EQ(members[0], group.size());
  EXPECT_EQ(group.size(), all().rank() % 2 == 0 ? (all().size() + 1) / 2 : all().size() / 2);
  EXPECT_EQ(group.rank(), all().rank() / 2);
}

TEST(Ranks, WhatTheFirstHasAllHave) {
  std::vector<double> values{all().first() ? 2.5 : 0.0};
  all().copy_from_first(values);
  EXPECT_EQ(values[0], 2.5);
}

}  // namespace
}  // namespace sememe

int main(int count, char** arguments) {
  testing::InitGoogleTest(&count, arguments);
  return sememe::leave_ranks(RUN_ALL_TESTS());
}
