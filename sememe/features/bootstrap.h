#pragma once
// Confidence intervals of figures that are made of sums over a text: contexts are drawn again with replacement (Efron 1979).

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace sememe {

struct Interval {
  double low = 0.0, high = 0.0;
};

/// 95 % intervals, from the 2.5th to the 97.5th percentile over 1000 draws of as many contexts as there are. All figures see the same
/// draws. Contexts count as independent; those cut from one document are less so, which makes the intervals somewhat narrow.
/// @param sums    [contexts][terms], each term summed over a context
/// @param figures from the terms summed over all drawn contexts to the figures
/// @param seed    of the stream "evaluation/bootstrap"
/// @return one interval a figure; nothing with fewer than 2 contexts, or where a figure is finite in no draw
std::vector<std::optional<Interval>> bootstrap_intervals(const std::vector<std::vector<double>>& sums,
                                                         const std::function<std::vector<double>(std::span<const double>)>& figures,
                                                         uint64_t seed);

/// One-sided paired bootstrap: the share of 10,000 draws with replacement of the pairs in which the mean of first - second is not above 0.
/// @param first, second of the same things, e.g. features; at least one
/// @param seed          of the stream "bootstrap/paired"
/// @throws Error if their numbers differ or there are none
double paired_bootstrap_p(std::span<const double> first, std::span<const double> second, uint64_t seed);

/// Of at least one value.
double mean(std::span<const double> values);

/// Percentile `percent` (0 .. 100) of ascending values, linear between neighbours. There is at least one value.
double percentile(std::span<const double> ascending, double percent);

}  // namespace sememe
