#pragma once
// What leaving neurons out costs where it happens: in decoding. Scores of a text that is read as a prompt say nothing about that, because prompts
// are read with all neurons.

#include <cstdint>
#include <span>
#include <vector>

#include "sememe/inference/sparse_decoder.h"

namespace sememe {

/// Of one decoder, over texts of which a prefix is read as the prompt and what follows is forced through decode(). Each value is of one text.
struct DecodingQuality {
  int64_t tokens = 0;               ///< scored, in all
  std::vector<double> dense_nats;   ///< a token, with all neurons
  std::vector<double> nats;         ///< with those that the policy keeps
  std::vector<double> kl;           ///< of the prediction from the dense one, nats a token
  std::vector<double> agreement;    ///< share of tokens whose likeliest next token is the dense one's
  double kept = 0;                  ///< share of hidden activations that are not zero, in the layers that the policy is about

  static double mean(const std::vector<double>& values);
  double dense_perplexity() const;
  double perplexity() const;
  /// Half the width of the 95 % interval of the mean of nats - dense_nats, texts being independent.
  double nats_interval() const;
};

/// @param texts token ids, longer than `prefix` by at least two
/// @return of each decoder, which work on the engine
/// @throws Error if a text is too short or too long for the context; Interrupted on SIGINT
std::vector<DecodingQuality> measure_decoding(QuantizedTransformer& engine, std::span<SparseDecoder* const> decoders,
                                              std::span<const std::vector<int32_t>> texts, int64_t prefix);

}  // namespace sememe
