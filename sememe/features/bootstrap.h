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

/// Percentile `percent` (0 .. 100) of ascending values, linear between neighbours. There is at least one value.
double percentile(std::span<const double> ascending, double percent);

}  // namespace sememe
