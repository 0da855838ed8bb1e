#include "sememe/inference/sampling.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"

namespace sememe {

void check_sampling(const SamplingOptions& options) {
  if (options.top_k < 0 || !(options.temperature >= 0)) fail_usage("top-k and the temperature cannot be negative");
  if (!(options.top_p > 0 && options.top_p <= 1)) fail_usage("top-p {}: give a share above 0, at most 1", options.top_p);
}

Sampler::Sampler(const SamplingOptions& options, uint64_t seed, std::string_view name) : options_(options), stream_(seed, name) {
  check_sampling(options);
}

int32_t Sampler::draw(std::span<const float> logits) {
  if (options_.temperature == 0) return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  const auto likelier = [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; };
  const auto count = static_cast<int64_t>(logits.size());
  const int64_t kept = options_.top_k == 0 ? count : std::min(options_.top_k, count);
  candidates_.clear();
  // A heap whose top is the least of the best so far: most logits are below it and cost one comparison.
  for (int64_t i = 0; i < count; ++i) {
    const std::pair<float, int32_t> candidate{logits[i], static_cast<int32_t>(i)};
    if (i < kept) {
      candidates_.push_back(candidate);
      if (i == kept - 1) std::make_heap(candidates_.begin(), candidates_.end(), likelier);
    } else if (candidate.first > candidates_.front().first) {
      std::pop_heap(candidates_.begin(), candidates_.end(), likelier);
      candidates_.back() = candidate;
      std::push_heap(candidates_.begin(), candidates_.end(), likelier);
    }
  }
  std::sort(candidates_.begin(), candidates_.end(), likelier);
  sums_.clear();
  double sum = 0.0;
  for (const auto& [logit, id] : candidates_)
    sums_.push_back(sum += std::exp((static_cast<double>(logit) - candidates_[0].first) / options_.temperature));
  // The nucleus ends with the id that brings the sum to top_p; it is never empty.
  double mass = sum;
  if (options_.top_p < 1) mass = *std::min(std::lower_bound(sums_.begin(), sums_.end(), options_.top_p * sum), sums_.end() - 1);
  const auto place = std::upper_bound(sums_.begin(), sums_.end(), mass * stream_.uniform());
  return candidates_[std::min<int64_t>(place - sums_.begin(), kept - 1)].second;
}

}  // namespace sememe
