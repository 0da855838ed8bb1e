#include "sememe/base/random.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace sememe {
namespace {

// Known answers of the generator's authors (Salmon et al. 2011, Random123).
TEST(Philox, GivesThePublishedKnownAnswers) {
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(RandomStream, NamesAndSeedsGiveDifferentNumbers) {
  std::set<uint64_t> seen;
  for (const uint64_t seed : {0, 1, 2})
    for (const char* name : {"batches", "batches ", "init/W_enc", ""})
      for (uint64_t counter = 0; counter < 100; ++counter) seen.insert(RandomStream(seed, name).at(counter));
  EXPECT_EQ(seen.size(), 3u * 4 * 100);
}

TEST(RandomStream, SeekingResumesWhereItWas) {
  RandomStream stream(7, "resume");
  for (int i = 0; i < 5; ++i) stream.normal();
  RandomStream resumed(7, "resume");
  resumed.seek(stream.position());
  EXPECT_EQ(resumed.next(), stream.next());
}

TEST(RandomStream, TwoStreamsAreUncorrelatedAndNormal) {
  RandomStream first(1, "a"), second(1, "b");
  constexpr int kDraws = 20000;
  double sum = 0, squares = 0, products = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = first.normal(), y = second.normal();
    sum += x, squares += x * x, products += x * y;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.03);
  EXPECT_NEAR(squares / kDraws, 1, 0.05);
  EXPECT_NEAR(products / kDraws, 0, 0.03);
}

RC_GTEST_PROP(RandomStreamLaw, BelowStaysBelow, (uint64_t seed)) {
  const uint64_t bound = *rc::gen::inRange<uint64_t>(1, 1000);
  RandomStream stream(seed, "below");
  for (int i = 0; i < 50; ++i) RC_ASSERT(stream.below(bound) < bound);
}

RC_GTEST_PROP(PermutationLaw, HoldsEveryNumberOnce, (uint64_t seed)) {
  RandomStream stream(seed, "permutation");
  auto order = permutation(*rc::gen::inRange<int64_t>(0, 300), stream);
  std::sort(order.begin(), order.end());
  for (size_t i = 0; i < order.size(); ++i) RC_ASSERT(order[i] == static_cast<int64_t>(i));
}

}  // namespace
}  // namespace sememe
