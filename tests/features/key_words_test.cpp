#include "sememe/features/key_words.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

namespace sememe {
namespace {

std::vector<WordCount> some_counts() {
  std::vector<WordCount> counts;
  const int words = *rc::gen::inRange(1, 8);
  for (int32_t word = 0; word < words; ++word) {
    const auto occurrences = *rc::gen::inRange<int64_t>(1, 50);
    counts.push_back({word, *rc::gen::inRange<int64_t>(1, occurrences + 1), occurrences});
  }
  return counts;
}

RC_GTEST_PROP(ContrastWords, FollowTheEquationsOfMonroe, ()) {
  const std::vector<WordCount> counts = some_counts();
  int64_t places = *rc::gen::inRange<int64_t>(0, 200);
  double firings = 0;
  for (const WordCount& count : counts) places += count.occurrences, firings += static_cast<double>(count.firings);
  const double prior = 1000.0, silent = static_cast<double>(places) - firings;
  const std::vector<KeyWord> found = contrast_words(counts, places, prior);
  size_t listed = 0;
  for (const WordCount& count : counts) {
    // y is a count, n a total, a the prior's share of the word; i where the latent fires, j elsewhere.
    const double a = prior * static_cast<double>(count.occurrences) / static_cast<double>(places);
    const double yi = static_cast<double>(count.firings), yj = static_cast<double>(count.occurrences - count.firings);
    const double log_odds = std::log((yi + a) / (firings + prior - yi - a)) - std::log((yj + a) / (silent + prior - yj - a));
    const double z = log_odds / std::sqrt(1.0 / (yi + a) + 1.0 / (yj + a));
    const auto word = std::find_if(found.begin(), found.end(), [&](const KeyWord& one) { return one.word == count.word; });
    if (!std::isfinite(log_odds) || std::abs(log_odds) < 1e-9) continue;
    RC_ASSERT((word != found.end()) == (log_odds > 0));
    if (word == found.end()) continue;
    ++listed;
    RC_ASSERT(std::abs(word->log_odds - log_odds) < 1e-9 * std::abs(log_odds) + 1e-12);
    RC_ASSERT(std::abs(word->z - z) < 1e-9 * std::abs(z) + 1e-12);
    RC_ASSERT(word->firings == count.firings);
    RC_ASSERT(word->occurrences == count.occurrences);
  }
  RC_ASSERT(listed <= found.size());
  for (size_t i = 1; i < found.size(); ++i)
    RC_ASSERT((found[i - 1].z > found[i].z || (found[i - 1].z == found[i].z && found[i - 1].word < found[i].word)));
}

TEST(ContrastWords, AWordThatIsAsCommonElsewhereIsNotAmongThem) {
  // Both words hold half the firings, but the first holds half of all places too.
  const std::vector<WordCount> counts{{0, 50, 500}, {1, 50, 60}};
  const std::vector<KeyWord> found = contrast_words(counts, 1000);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].word, 1);
  EXPECT_GT(found[0].z, 1.96);
}

TEST(ContrastWords, ATextOfOneWordHasNone) {
  const std::vector<WordCount> counts{{0, 5, 10}};
  EXPECT_TRUE(contrast_words(counts, 10).empty());
}

TEST(AveragePrecision, IsOneForWordsThatHoldEveryFiringAndNothingElse) {
  const std::vector<WordCount> ordered{{0, 7, 7}, {1, 3, 3}};
  EXPECT_EQ(average_precision(ordered, 10, 1000), 1.0);
}

TEST(AveragePrecision, IsTheDensityWhereNoWordIsNamed) {
  EXPECT_DOUBLE_EQ(average_precision({}, 30, 1000), 0.03);
  EXPECT_EQ(average_precision({}, 0, 1000), 0.0);
}

TEST(AveragePrecision, TakesTheStepsOfTheCurve) {
  // 2 of 4 places, then 1 of 2, then the last firing among 94.
  const std::vector<WordCount> ordered{{0, 2, 4}, {1, 1, 2}};
  EXPECT_DOUBLE_EQ(average_precision(ordered, 4, 100), (2 * (2.0 / 4) + 1 * (3.0 / 6) + 1 * (4.0 / 100)) / 4);
}

RC_GTEST_PROP(AveragePrecision, IsThatOfPlacesTakenAGroupAtATime, ()) {
  const std::vector<WordCount> ordered = some_counts();
  int64_t firings = *rc::gen::inRange<int64_t>(0, 20), places = firings + *rc::gen::inRange<int64_t>(0, 50);
  std::vector<std::pair<double, bool>> scored;  // every place with its score and whether it fires
  for (int64_t i = 0; i < places; ++i) scored.emplace_back(-1e9, i < firings);
  for (size_t i = 0; i < ordered.size(); ++i)
    for (int64_t j = 0; j < ordered[i].occurrences; ++j) scored.emplace_back(-static_cast<double>(i), j < ordered[i].firings);
  for (const WordCount& count : ordered) firings += count.firings, places += count.occurrences;
  // Precision at each firing is that of all places with at least its score.
  double sum = 0.0;
  for (const auto& [score, fires] : scored) {
    if (!fires) continue;
    double at_least = 0, hits = 0;
    for (const auto& [other, hit] : scored) at_least += other >= score, hits += other >= score && hit;
    sum += hits / at_least;
  }
  RC_ASSERT(std::abs(average_precision(ordered, firings, places) - sum / static_cast<double>(firings)) < 1e-12);
}

}  // namespace
}  // namespace sememe
