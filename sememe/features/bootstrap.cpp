#include "sememe/features/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/base/random.h"

namespace sememe {
namespace {

constexpr int64_t kDraws = 1000, kPairedDraws = 10'000;

}  // namespace

std::vector<std::optional<Interval>> bootstrap_intervals(const std::vector<std::vector<double>>& sums,
                                                         const std::function<std::vector<double>(std::span<const double>)>& figures,
                                                         uint64_t seed) {
  const size_t terms = sums.empty() ? 0 : sums.front().size();
  const size_t count = figures(std::vector<double>(terms, 1.0)).size();
  std::vector<std::vector<double>> drawn(count);
  RandomStream stream(seed, "evaluation/bootstrap");
  for (int64_t draw = 0; sums.size() >= 2 && draw < kDraws; ++draw) {
    std::vector<double> total(terms, 0.0);
    for (size_t i = 0; i < sums.size(); ++i) {
      const std::vector<double>& context = sums[stream.below(sums.size())];
      for (size_t term = 0; term < terms; ++term) total[term] += context[term];
    }
    const std::vector<double> values = figures(total);
    for (size_t figure = 0; figure < count; ++figure)
      if (std::isfinite(values[figure])) drawn[figure].push_back(values[figure]);
  }
  std::vector<std::optional<Interval>> intervals;
  for (std::vector<double>& values : drawn) {
    std::sort(values.begin(), values.end());
    intervals.push_back(values.empty() ? std::nullopt : std::optional(Interval{percentile(values, 2.5), percentile(values, 97.5)}));
  }
  return intervals;
}

double paired_bootstrap_p(std::span<const double> first, std::span<const double> second, uint64_t seed) {
  if (first.empty() || first.size() != second.size()) fail("{} values cannot be paired with {}", first.size(), second.size());
  RandomStream stream(seed, "bootstrap/paired");
  int64_t not_above = 0;
  for (int64_t draw = 0; draw < kPairedDraws; ++draw) {
    double sum = 0.0;
    for (size_t i = 0; i < first.size(); ++i) {
      const auto pair = static_cast<size_t>(stream.below(first.size()));
      sum += first[pair] - second[pair];
    }
    not_above += !(sum > 0);
  }
  return static_cast<double>(not_above) / static_cast<double>(kPairedDraws);
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double percentile(std::span<const double> ascending, double percent) {
  const double place = percent / 100.0 * static_cast<double>(ascending.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, ascending.size() - 1);
  return std::lerp(ascending[below], ascending[above], place - static_cast<double>(below));
}

}  // namespace sememe
