#pragma once
// How the frequencies of rotary positions are slowed down for contexts longer than those of the first training.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace sememe {

struct RotaryScaling {
  enum class Kind {
    kNone,
    kLinear,   ///< all by `factor` (Chen et al. 2023)
    kLlama3,   ///< what turns seldom by `factor`, what turns often not, between them by interpolation of the turns (Llama 3.1)
    kYarn,     ///< the same with an interpolation of the frequencies' numbers (Peng et al. 2023, section 3.2)
    kDivisors  ///< each by its own divisor (GGUF files; LongRoPE, Ding et al. 2024)
  };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_turns = 1.0;           ///< kLlama3, kYarn: what turns less often than this in `original_context` tokens turns seldom
  double high_turns = 4.0;          ///< kLlama3, kYarn: what turns more often than this turns often
  int64_t original_context = 8192;  ///< kLlama3, kYarn: tokens
  std::vector<float> divisors;      ///< kDivisors: [frequencies]
  double magnitude = 1.0;           ///< rotated queries and keys are multiplied by it, each (Peng et al. 2023, section 3.4)

  bool operator==(const RotaryScaling&) const = default;
};

/// @param frequencies how many there are
/// @throws Error beginning "the transformer's" and naming the member that cannot be
void check_rotary_scaling(const RotaryScaling& scaling, int64_t frequencies);

/// @param base that of the frequencies, base^(-i / [their number])
void slow_frequencies(const RotaryScaling& scaling, double base, std::span<double> frequencies);

/// The magnitude that goes with slowing by `factor` (Peng et al. 2023, eq. 22); 1 where nothing is slowed.
double yarn_magnitude(double factor);
/// The same of LongRoPE (Ding et al. 2024; the code that came with Phi 3). @param original_context tokens
double longrope_magnitude(double factor, int64_t original_context);

}  // namespace sememe
