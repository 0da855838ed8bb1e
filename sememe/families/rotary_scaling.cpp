#include "sememe/families/rotary_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "sememe/base/error.h"

namespace sememe {
namespace {

/// Of Llama 3.1: how much slower something of this frequency turns. The published description is the code that came with the weights.
double llama3_divisor(const RotaryScaling& scaling, double frequency) {
  const double turns = static_cast<double>(scaling.original_context) * frequency / (2 * std::numbers::pi);
  if (turns > scaling.high_turns) return 1.0;
  if (turns < scaling.low_turns) return scaling.factor;
  const double share = (turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns);
  return 1.0 / ((1 - share) / scaling.factor + share);
}

/// The number, not whole, of the frequency that turns so often in the first context; numbers rise as frequencies fall.
double frequency_number(const RotaryScaling& scaling, double turns, double base, double count) {
  return count * std::log(static_cast<double>(scaling.original_context) / (turns * 2 * std::numbers::pi)) / std::log(base);
}

void slow_by_yarn(const RotaryScaling& scaling, double base, std::span<double> frequencies) {
  const auto count = static_cast<double>(frequencies.size());
  // Clamped as the code that came with the paper does: the last number is taken to be that of a head's values, not of its frequencies.
  const double first = std::max(std::floor(frequency_number(scaling, scaling.high_turns, base, count)), 0.0);
  const double last = std::min(std::ceil(frequency_number(scaling, scaling.low_turns, base, count)), 2 * count - 1);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double slowed = std::clamp((static_cast<double>(i) - first) / std::max(last - first, 0.001), 0.0, 1.0);
    frequencies[i] *= slowed / scaling.factor + (1 - slowed);
  }
}

bool positive(double value) { return value > 0 && std::isfinite(value); }

}  // namespace

void check_rotary_scaling(const RotaryScaling& scaling, int64_t frequencies) {
  using Kind = RotaryScaling::Kind;
  if (!positive(scaling.factor)) fail("the transformer's rotary positions are scaled by {}; it must be positive", scaling.factor);
  if (!positive(scaling.magnitude))
    fail("the transformer's rotated queries and keys are multiplied by {}; it must be positive", scaling.magnitude);
  const bool rising = scaling.low_turns > 0 && scaling.high_turns > scaling.low_turns && std::isfinite(scaling.high_turns);
  if ((scaling.kind == Kind::kLlama3 || scaling.kind == Kind::kYarn) && !(rising && scaling.original_context > 0))
    fail("the transformer's rotary scaling has a low factor of {}, a high one of {} and a first context of {}; they must be positive and rise",
         scaling.low_turns, scaling.high_turns, scaling.original_context);
  if (scaling.kind != Kind::kDivisors) return;
  if (static_cast<int64_t>(scaling.divisors.size()) != frequencies)
    fail("the transformer has {} divisors of rotary frequencies; it must have {}", scaling.divisors.size(), frequencies);
  for (const float divisor : scaling.divisors)
    if (!positive(divisor)) fail("a divisor of the transformer's rotary frequencies is {}; it must be positive", divisor);
}

void slow_frequencies(const RotaryScaling& scaling, double base, std::span<double> frequencies) {
  switch (scaling.kind) {
    case RotaryScaling::Kind::kNone: return;
    case RotaryScaling::Kind::kLinear:
      for (double& frequency : frequencies) frequency /= scaling.factor;
      return;
    case RotaryScaling::Kind::kLlama3:
      for (double& frequency : frequencies) frequency /= llama3_divisor(scaling, frequency);
      return;
    case RotaryScaling::Kind::kYarn: slow_by_yarn(scaling, base, frequencies); return;
    case RotaryScaling::Kind::kDivisors:
      for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] /= scaling.divisors.at(i);
      return;
  }
}

double yarn_magnitude(double factor) { return factor <= 1 ? 1.0 : 0.1 * std::log(factor) + 1.0; }

double longrope_magnitude(double factor, int64_t original_context) {
  return factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original_context)));
}

}  // namespace sememe
