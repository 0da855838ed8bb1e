#include "sememe/features/learner.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/features/autoencoder_weights.h"

namespace sememe {

torch::Tensor geometric_median(const torch::Tensor& rows) {
  const torch::Tensor points = rows.to(torch::kDouble);
  torch::Tensor median = points.mean(0);
  for (int round = 0; round < 100; ++round) {
    // Points at the median itself would weigh infinitely and hold it there. Without them the step would go to `target`; they keep it by
    // as much as their number is against the pull of the others (Vardi & Zhang 2000, eq. 2.6).
    const torch::Tensor distances = (points - median).norm(2, {1});
    const torch::Tensor weights = torch::where(distances > 1e-12, distances.reciprocal(), 0.0);
    if (weights.sum().item<double>() == 0.0) break;
    const torch::Tensor target = torch::mv(points.t(), weights) / weights.sum();
    const double here = (distances <= 1e-12).sum().item<double>();
    const double pull = ((target - median) * weights.sum()).norm().item<double>();
    const double kept = here == 0.0 ? 0.0 : pull > 0.0 ? std::min(1.0, here / pull) : 1.0;
    const torch::Tensor next = target * (1.0 - kept) + median * kept;
    const double moved = (next - median).norm().item<double>();
    median = next;
    if (moved < 1e-5) break;
  }
  return median.to(torch::kFloat);
}

void check_rows(const torch::Tensor& rows, int64_t width) {
  check_inputs(rows, width);
  const torch::Tensor good = rows.isfinite().all(1);
  if (!good.all().item<bool>())
    fail("row {} of the batch holds a value that is NaN or infinite", good.logical_not().nonzero()[0].item<int64_t>());
}

void restore_tensors(const NamedTensors& state, const SafetensorsFile& file) {
  const torch::NoGradGuard no_autograd;
  for (const auto& [name, tensor] : state) {
    const torch::Tensor saved = load_tensor(file, name);
    if (saved.sizes() != tensor.sizes() || saved.scalar_type() != tensor.scalar_type())
      fail("{}: the tensor \"{}\" has another shape or type than this training", file.path().string(), name);
    torch::Tensor(tensor).copy_(saved);
  }
}

ActivationStatistics measure_activations(const torch::Tensor& sample, std::vector<int64_t> parts) {
  if (parts.empty()) parts = {sample.size(1)};
  const bool possible = std::all_of(parts.begin(), parts.end(), [](int64_t width) { return width > 0; });
  if (!possible || std::accumulate(parts.begin(), parts.end(), int64_t{0}) != sample.size(1))
    fail("parts of {} columns do not make rows of {}", fmt::join(parts, ", "), sample.size(1));
  ActivationStatistics statistics;
  statistics.mean_norm = sample.norm(2, {1}).mean(torch::kDouble).item<double>();
  int64_t begin = 0;
  for (const int64_t width : parts) {
    const torch::Tensor columns = sample.narrow(1, begin, width);
    const torch::Tensor mean = columns.mean({0}, false, torch::kDouble).to(torch::kFloat);
    const ActivationStatistics::Part part{width, columns.norm(2, {1}).mean(torch::kDouble).item<double>(),
                                          (columns - mean).square().sum(1).mean(torch::kDouble).item<double>()};
    if (!(part.mean_norm > 0) || !(part.variance > 1e-12 * part.mean_norm * part.mean_norm))
      fail("the activations{} are all the same; there is nothing to learn from them",
           parts.size() > 1 ? fmt::format(" of site {}", statistics.parts.size() + 1) : "");
    statistics.variance += part.variance;
    statistics.parts.push_back(part);
    begin += width;
  }
  statistics.median = geometric_median(sample.narrow(0, 0, std::min<int64_t>(sample.size(0), 32768)));
  return statistics;
}

void check_loss(double loss, int64_t step) {
  if (!std::isfinite(loss))
    fail("the loss became {} at step {}; train with a lower --learning-rate", std::isnan(loss) ? "NaN" : "infinite", step);
}

}  // namespace sememe
