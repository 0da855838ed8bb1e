#include "sememe/features/learner.h"

#include <cmath>

#include "sememe/base/error.h"

namespace sememe {

torch::Tensor geometric_median(const torch::Tensor& rows) {
  const torch::Tensor points = rows.to(torch::kDouble);
  torch::Tensor median = points.mean(0);
  for (int round = 0; round < 100; ++round) {
    // A point at the median itself would weigh infinitely: distances are bounded below.
    const torch::Tensor weights = (points - median).norm(2, {1}).clamp_min(1e-12).reciprocal();
    const torch::Tensor next = torch::mv(points.t(), weights) / weights.sum();
    const double moved = (next - median).norm().item<double>();
    median = next;
    if (moved < 1e-5) break;
  }
  return median.to(torch::kFloat);
}

ActivationStatistics measure_activations(const torch::Tensor& sample) {
  ActivationStatistics statistics;
  statistics.mean_norm = sample.norm(2, {1}).mean(torch::kDouble).item<double>();
  const torch::Tensor mean = sample.mean({0}, false, torch::kDouble).to(torch::kFloat);
  statistics.variance = (sample - mean).square().sum(1).mean(torch::kDouble).item<double>();
  if (!(statistics.mean_norm > 0) || !(statistics.variance > 1e-12 * statistics.mean_norm * statistics.mean_norm))
    fail("the activations are all the same; there is nothing to learn from them");
  statistics.median = geometric_median(sample.narrow(0, 0, std::min<int64_t>(sample.size(0), 32768)));
  return statistics;
}

}  // namespace sememe
