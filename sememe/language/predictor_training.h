#pragma once
// Training of predictors of neurons (inference/neuron_predictor.h).

#include <cstdint>
#include <span>
#include <vector>

#include "sememe/inference/neuron_predictor.h"
#include "sememe/inference/quantized_transformer.h"

namespace sememe {

struct PredictorOptions {
  int64_t rank = 64;
  double keep = 0.4;  ///< without a ReLU, this share of a token's largest activations is what fires
  double learning_rate = 2e-3;
  uint64_t seed = 1;
};

/// One pass of Adam over the texts' tokens, a step for each text, for every layer: binary cross-entropy of the neurons that fire, which are those
/// whose activation is above zero where the MLP has a ReLU.
/// @param texts token ids of at most a context each
/// @return [layers]
/// @throws Error if there is no text, UsageError if an option cannot be, Interrupted on SIGINT
std::vector<NeuronPredictor> train_predictors(QuantizedTransformer& engine, std::span<const std::vector<int32_t>> texts,
                                              const PredictorOptions& options);

}  // namespace sememe
