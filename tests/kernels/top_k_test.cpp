#include "sememe/kernels/top_k.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "tests/kernels/every_target.h"

namespace sememe::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
using Source = UnrankableEntry::Source;

struct Selected {
  std::vector<int32_t> latents, counts;
  std::vector<float> values;
  bool operator==(const Selected&) const = default;
};

enum class Way { kVector, kReference };

Selected select(const std::vector<float>& pre_activations, int64_t rows, const TopKOptions& options, Way way = Way::kVector) {
  // Filled with what no result holds, so that a place left unwritten shows.
  Selected selected{std::vector<int32_t>(rows * options.k, -7), std::vector<int32_t>(rows, -7),
                    std::vector<float>(rows * options.k, -7.0f)};
  const TopKOutput output{selected.latents.data(), selected.values.data(), selected.counts.data()};
  const int64_t width = rows == 0 ? 0 : static_cast<int64_t>(pre_activations.size()) / rows;
  const auto run = way == Way::kVector ? top_k : top_k_reference;
  EXPECT_FALSE(run(pre_activations.data(), rows, width, options, output).has_value());
  return selected;
}

std::optional<UnrankableEntry> unrankable(const std::vector<float>& pre_activations, int64_t rows, const TopKOptions& options,
                                          Way way = Way::kVector) {
  std::vector<int32_t> latents(rows * options.k), counts(rows);
  std::vector<float> values(rows * options.k);
  const auto run = way == Way::kVector ? top_k : top_k_reference;
  return run(pre_activations.data(), rows, static_cast<int64_t>(pre_activations.size()) / rows, options,
             {latents.data(), values.data(), counts.data()});
}

std::vector<float> normal_values(int64_t count, uint64_t seed) {
  RandomStream stream(seed, "top-k test");
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(stream.normal());
  return values;
}

void expect_like_reference(const std::vector<float>& pre_activations, int64_t rows, const TopKOptions& options) {
  EXPECT_EQ(select(pre_activations, rows, options), select(pre_activations, rows, options, Way::kReference))
      << "k = " << options.k << ", entries = " << pre_activations.size();
}

TEST(TopK, KeepsTheLargestInLatentOrder) {
  on_every_target([] {
    const Selected selected = select({0.5f, 3, -4, 2, 1, 9, 0, 2.5f}, 1, {.k = 3});
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{1, 5, 7}));
    EXPECT_EQ(selected.values, (std::vector<float>{3, 9, 2.5f}));
    EXPECT_EQ(selected.counts, std::vector<int32_t>{3});
  });
}

TEST(TopK, TiesGoToTheLowerLatent) {
  on_every_target([] {
    const Selected selected = select({1, 2, 1, 2, 1, 1}, 1, {.k = 4});
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{0, 1, 2, 3}));
  });
}

TEST(TopK, NeverSelectsZeroOrNegativeEntries) {
  on_every_target([] {
    const Selected selected = select({-1, 0, -0.0f, 1e-45f, -kInfinity, 2}, 1, {.k = 4});
    EXPECT_EQ(selected.counts, std::vector<int32_t>{2});
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{3, 5, -1, -1}));
    EXPECT_EQ(selected.values, (std::vector<float>{1e-45f, 2, 0, 0}));
  });
}

TEST(TopK, KBeyondTheWidthKeepsEveryPositiveEntry) {
  on_every_target([] {
    const Selected selected = select({1, -1, 3, 2, 0, 5}, 2, {.k = 5});
    EXPECT_EQ(selected.counts, (std::vector<int32_t>{2, 2}));
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{0, 2, -1, -1, -1, 0, 2, -1, -1, -1}));
  });
}

TEST(TopK, AgreesWithTheReferenceAtEverySize) {
  on_every_target([] {
    for (const int64_t width : kWidths) {
      const auto pre_activations = normal_values(3 * width, width);
      for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{16}, int64_t{33}, width / 2 + 1, width + 1})
        expect_like_reference(pre_activations, 3, {.k = k});
    }
  });
}

TEST(TopK, NoRowsGiveNothing) { EXPECT_EQ(select({}, 0, {.k = 4}), Selected{}); }

TEST(TopK, RowsInAnyOrderOfEntriesAgreeWithTheReference) {
  constexpr int64_t kWidth = 2048;
  auto ascending = normal_values(kWidth, 1);
  std::sort(ascending.begin(), ascending.end());
  const std::vector<float> descending(ascending.rbegin(), ascending.rend()), constant(kWidth, 1.5f);
  std::vector<float> two_valued(kWidth, 0.5f), one_lane(kWidth, 0.25f), last_only(kWidth, -1.0f);
  for (int64_t i = 0; i < kWidth; i += 3) two_valued[i] = 1.0f;
  for (int64_t i = 5; i < kWidth; i += 64) one_lane[i] = static_cast<float>(i);
  last_only.back() = 1.0f;
  on_every_target([&] {
    for (const auto& row : {ascending, descending, constant, two_valued, one_lane, last_only})
      for (const int64_t k : {1, 31, 32, 64, 700, 2047, 2048}) expect_like_reference(row, 1, {.k = k});
  });
}

TEST(TopK, ExtremeMagnitudesAreRankedExactly) {
  on_every_target([] {
    const float largest = std::numeric_limits<float>::max();
    const float next = std::nextafter(largest, 0.0f);
    const Selected selected = select({1e-45f, next, 1e-38f, largest, 1e-44f, next}, 1, {.k = 2});
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{1, 3}));
  });
}

TEST(TopK, ThreadsDoNotChangeTheResult) {
  const auto pre_activations = normal_values(700 * 1000, 3);
  const int threads = thread_count();
  set_thread_count(1);
  const Selected alone = select(pre_activations, 700, {.k = 20});
  set_thread_count(4);
  EXPECT_EQ(select(pre_activations, 700, {.k = 20}), alone);
  set_thread_count(threads);
  EXPECT_EQ(select(pre_activations, 700, {.k = 20}, Way::kReference), alone);
}

TEST(TopK, NansOfEitherSignAndPlusInfinityAreReportedWhereverTheyStand) {
  on_every_target([] {
    for (const int64_t width : {1, 3, 17, 64, 130, 1000}) {
      for (int64_t latent = 0; latent < width; latent += std::max<int64_t>(1, width / 7)) {
        for (const float bad : {kNan, -kNan, kInfinity}) {
          auto pre_activations = normal_values(2 * width, 9);
          pre_activations[width + latent] = bad;
          const auto found = unrankable(pre_activations, 2, {.k = 2});
          ASSERT_TRUE(found.has_value()) << width << " " << latent << " " << bad;
          EXPECT_EQ(found->source, Source::kPreActivation);
          EXPECT_EQ(found->row, 1);
          EXPECT_EQ(found->latent, latent);
        }
      }
    }
  });
}

TEST(TopK, TheFirstOfManyBadEntriesIsReportedOnAnyNumberOfThreads) {
  auto pre_activations = normal_values(500 * 1000, 4);
  for (const int64_t row : {123, 124, 300, 499}) pre_activations[row * 1000 + 77] = pre_activations[row * 1000 + 99] = kNan;
  for (const Way way : {Way::kVector, Way::kReference}) {
    const auto found = unrankable(pre_activations, 500, {.k = 3}, way);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(describe(*found), "pre-activation at row 123, latent 77 is nan");
  }
}

TEST(TopK, AdditiveScoreWeighsTheInfluenceButGivesThePreActivation) {
  const std::vector<float> influence{0, 3, 0, 9};
  on_every_target([&] {  // scores 4, 4.5, 5, -
    const Selected selected =
        select({4, 1.8f, 5, -9}, 1, {.k = 2, .score = SelectionScore::kAdditive, .influence = influence.data(), .beta = 0.5f});
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{1, 2}));
    EXPECT_EQ(selected.values, (std::vector<float>{1.8f, 5}));
  });
}

TEST(TopK, ZeroBetaIsPlainTopK) {
  const auto pre_activations = normal_values(4 * 333, 5);
  auto influence = normal_values(4 * 333, 6);
  for (float& g : influence) g = std::abs(g);
  EXPECT_EQ(select(pre_activations, 4, {.k = 9, .score = SelectionScore::kAdditive, .influence = influence.data(), .beta = 0}),
            select(pre_activations, 4, {.k = 9}));
}

TEST(TopK, ProductScoreFallsBackToTheValueWhereARowHasNoInfluence) {
  const std::vector<float> influence{0, 0, 0, 0, 5, 1};
  on_every_target([&] {
    const Selected selected =
        select({1, 3, 2, 9, 1, 2}, 2, {.k = 2, .score = SelectionScore::kProduct, .influence = influence.data()});
    EXPECT_EQ(selected.latents, (std::vector<int32_t>{1, 2, 1, 2}));
  });
}

TEST(TopK, GradientScoresAgreeWithTheReferenceAtEverySize) {
  on_every_target([] {
    for (const int64_t width : kWidths) {
      const auto pre_activations = normal_values(3 * width, width);
      auto influence = normal_values(3 * width, width + 1);
      for (float& g : influence) g = std::max(0.0f, g);
      for (const auto score : {SelectionScore::kAdditive, SelectionScore::kProduct})
        for (const int64_t k : {int64_t{1}, int64_t{16}, width / 2 + 1})
          expect_like_reference(pre_activations, 3, {.k = k, .score = score, .influence = influence.data(), .beta = 0.7f});
    }
  });
}

TEST(TopK, BadInfluenceAndOverflowingScoresAreReported) {
  on_every_target([] {
    for (const float bad : {kNan, -kNan, kInfinity, -1.0f}) {
      std::vector<float> influence(40, 1.0f);
      influence[37] = bad;
      const TopKOptions options{.k = 2, .score = SelectionScore::kAdditive, .influence = influence.data()};
      const auto found = unrankable(std::vector<float>(40, 1.0f), 2, options);
      ASSERT_TRUE(found.has_value()) << bad;
      EXPECT_EQ(found->source, Source::kInfluence);
      EXPECT_EQ(found->row, 1);
      EXPECT_EQ(found->latent, 17);
    }
    const std::vector<float> influence{1, 1e30f};
    const TopKOptions options{.k = 1, .score = SelectionScore::kProduct, .influence = influence.data()};
    const auto found = unrankable({1, 1e30f}, 1, options);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(describe(*found), "selection score at row 0, latent 1 is inf");
  });
}

TEST(TopK, ImpossibleOptionsAreErrors) {
  const std::vector<float> row(4);
  EXPECT_THROW(unrankable(row, 1, {.k = 0}), Error);
  EXPECT_THROW(unrankable(row, 1, {.k = 1, .score = SelectionScore::kProduct}), Error);
  EXPECT_THROW(unrankable(row, 1, {.k = 1, .score = SelectionScore::kAdditive, .influence = row.data(), .beta = -1}), Error);
  EXPECT_THROW(unrankable(row, 1, {.k = 1, .score = SelectionScore::kAdditive, .influence = row.data(), .beta = kNan}), Error);
}

// Few distinct values make ties; bit patterns over the whole range make magnitudes that no distribution gives.
RC_GTEST_PROP(TopKLaw, EqualsTheReferenceOnTiesAndOnAnyMagnitude, ()) {
  const auto row = *rc::gen::container<std::vector<float>>(rc::gen::oneOf(
      rc::gen::map(rc::gen::inRange(-2, 4), [](int value) { return static_cast<float>(value); }),
      rc::gen::map(rc::gen::inRange<uint32_t>(0, 0x7F800000), [](uint32_t bits) { return std::bit_cast<float>(bits); })));
  const int64_t k = *rc::gen::inRange<int64_t>(1, static_cast<int64_t>(row.size()) + 3);
  on_every_target([&] { RC_ASSERT(select(row, 1, {.k = k}) == select(row, 1, {.k = k}, Way::kReference)); });
}

RC_GTEST_PROP(TopKLaw, ScalingByAPowerOfTwoKeepsTheSelection, ()) {
  auto row = normal_values(*rc::gen::inRange(1, 300), *rc::gen::arbitrary<uint64_t>());
  const int64_t k = *rc::gen::inRange<int64_t>(1, 64);
  const Selected before = select(row, 1, {.k = k});
  for (float& value : row) value *= 8;
  RC_ASSERT(select(row, 1, {.k = k}).latents == before.latents);
}

RC_GTEST_PROP(TopKLaw, WhatIsKeptForASmallerKIsKeptForALargerOne, ()) {
  const auto row = normal_values(*rc::gen::inRange(1, 300), *rc::gen::arbitrary<uint64_t>());
  const int64_t k = *rc::gen::inRange<int64_t>(1, 64);
  const Selected fewer = select(row, 1, {.k = k}), more = select(row, 1, {.k = k + 1});
  RC_ASSERT(std::includes(more.latents.begin(), more.latents.begin() + more.counts[0], fewer.latents.begin(),
                          fewer.latents.begin() + fewer.counts[0]));
}

}  // namespace
}  // namespace sememe::kernels
