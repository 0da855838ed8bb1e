#pragma once
// How much faster a decoder decodes than the engine with all neurons, measured side by side.

#include <cstdint>
#include <vector>

#include "sememe/inference/sparse_decoder.h"

namespace sememe {

/// One figure a round of each.
struct SparseSpeed {
  std::vector<double> dense_rates, rates;      ///< tokens a second, decoded one by one
  std::vector<double> prompt_seconds;          ///< reading the prompt
  std::vector<double> choosing_prompt_seconds;  ///< reading it, and choosing and copying what is kept
  std::vector<double> choice_seconds;          ///< of these what came after the reading

  double ratio() const;
  /// What choosing and copying adds, in tokens decoded with all neurons.
  double choice_in_tokens() const;
};

/// The middle value.
double median(std::vector<double> values);

/// Rounds of: a prompt of `prompt` tokens and `tokens` more with all neurons, then the same by the decoder; and one before them that does not count.
SparseSpeed measure_speed(QuantizedTransformer& engine, SparseDecoder& decoder, int64_t prompt, int64_t tokens, int64_t rounds);

}  // namespace sememe
