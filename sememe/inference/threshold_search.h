#pragma once
// How much of each matrix's input a block can do without: TEAL's greedy search (Liu et al. 2024, arXiv 2408.14690, algorithm 1).

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "sememe/families/transformer_config.h"
#include "sememe/inference/matrix_inputs.h"
#include "sememe/inference/quantized_transformer.h"

namespace sememe {

struct NeuronProfile;

/// Of each input of a block's matrices the share of values, the smallest, that are set to zero.
using InputShares = std::array<float, kMatrixInputs>;

/// The share of a block's weights that are multiplied by those zeros.
double share_of_block(const TransformerConfig& config, const InputShares& shares);

/// The first point of a path where that share is reached, else the last.
const InputShares& point_at(const TransformerConfig& config, std::span<const InputShares> path, double share);

struct ThresholdSearchOptions {
  double step = 0.025;   ///< of the block's weights, by which each point of a path is further than the one before
  double furthest = 0.9;  ///< where a path ends
  int64_t tokens = 256;  ///< that are run, of the first texts
};

/// For each layer a path from no zeros on: each time that input's share is raised which changes the block's output least (squared error, summed over
/// tokens). Thresholds are the profile's quantiles.
/// @return [layers][points]
/// @throws UsageError if an option cannot be, Error if there is no text, Interrupted on SIGINT
std::vector<std::vector<InputShares>> search_thresholds(QuantizedTransformer& engine, const NeuronProfile& profile,
                                                        std::span<const std::vector<int32_t>> texts, const ThresholdSearchOptions& options);

}  // namespace sememe
