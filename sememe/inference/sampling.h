#pragma once
// Which token comes next.

#include <cstdint>
#include <span>
#include <vector>

#include "sememe/base/random.h"

namespace sememe {

struct SamplingOptions {
  double temperature = 0.8;  ///< 0 takes the most likely token
  int64_t top_k = 50;        ///< the likeliest so many; 0 keeps all
  double top_p = 1.0;        ///< then of these only the likeliest that hold this much of their probability; 1 keeps all
};

/// @throws UsageError naming the member that cannot be
void check_sampling(const SamplingOptions& options);

class Sampler {
 public:
  /// Draws from the stream (seed, name). @throws UsageError as check_sampling
  Sampler(const SamplingOptions& options, uint64_t seed, std::string_view name);
  /// An id by its logit; of equal ones the lower id comes first. The logits are finite.
  int32_t draw(std::span<const float> logits);

 private:
  SamplingOptions options_;
  RandomStream stream_;
  std::vector<std::pair<float, int32_t>> candidates_;
  std::vector<double> sums_;
};

}  // namespace sememe
