#pragma once
// What a corpus says of the neurons of a model's MLPs: which fire how often, how large the inputs of matrices are, which neurons topics have in
// common. Made once for a model and kept in a folder; policies of sparse decoding read it.

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sememe/inference/core_neurons.h"
#include "sememe/inference/neuron_predictor.h"
#include "sememe/inference/quantized_transformer.h"
#include "sememe/inference/threshold_search.h"

namespace sememe {

/// Texts whose core neurons are alike (CoreInfer's similarity-guided prediction).
struct NeuronClusters {
  int64_t layer = 0;  ///< whose neurons tell texts apart
  int64_t chosen = 0;  ///< so many most frequent core neurons of a text are ones in its vector, all others zeros
  std::vector<std::vector<float>> centroids;                 ///< [clusters][neurons]
  std::vector<std::vector<std::vector<int32_t>>> rankings;  ///< [clusters][layers]: neurons, most frequent first
  std::vector<int32_t> of_texts;                             ///< the cluster of each text of the profile

  /// The 0/1 vector of a text, [neurons].
  std::vector<float> vector_of(const CoreNeurons& text) const;
  /// The cluster whose centroid is nearest.
  size_t nearest(std::span<const float> vector) const;
};

struct NeuronProfile {
  static constexpr int kQuantiles = 1001;  ///< of 0, 0.1 % to 100 %

  uint64_t model = 0;  ///< fingerprint() of it
  int64_t layers = 0, neurons = 0, tokens = 0;
  double token_share = 0.4;
  std::vector<std::vector<int32_t>> core;      ///< [layers][neurons]: for how many tokens each was among the core
  std::vector<std::vector<int32_t>> positive;  ///< the same, was positive
  std::vector<std::vector<float>> sums;        ///< of the positive activations
  std::vector<std::array<std::vector<float>, kMatrixInputs>> inputs;  ///< [layers]: quantiles of the size of each matrix's input
  std::vector<std::vector<float>> gates;       ///< [layers]: of the gate's behind its activation function, or of the activation without a gate
  std::vector<std::vector<InputShares>> input_paths;  ///< [layers][points] by search_thresholds(); empty if that was not done
  NeuronClusters clusters;
  std::shared_ptr<const std::vector<NeuronPredictor>> predictors;  ///< [layers], null if none were trained

  /// The size below which a share `below` of the values lie, from one table of quantiles.
  static float quantile(const std::vector<float>& table, double below);

  /// Neurons of a layer, the most frequent among the core first.
  std::vector<int32_t> by_frequency(int64_t layer) const;
  /// By PartInfer's importance: half the share of the largest sum of positive activations, half that of the largest number of them.
  std::vector<int32_t> by_importance(int64_t layer) const;

  /// Writes the folder, whole or not at all.
  void save(const std::filesystem::path& folder) const;
  /// @throws Error naming the file and what is wrong with it, or if it is of another model
  static NeuronProfile load(const std::filesystem::path& folder, const QuantizedTransformer& engine);
};

/// Neurons by falling score; of equal ones the lower first.
std::vector<int32_t> by_falling(const std::vector<double>& scores);

/// Tells models apart: of the shape and some of the weights.
uint64_t fingerprint(const QuantizedTransformer& engine);

/// PartInfer's file of neurons by importance, {"neurons": [layer][rank]}; -1 where there are no more.
void save_neuron_list(const std::filesystem::path& path, const std::vector<std::vector<int32_t>>& lists);
/// @throws Error naming the file if it is malformed or a neuron is not one of the model's
std::vector<std::vector<int32_t>> load_neuron_list(const std::filesystem::path& path, const TransformerConfig& config);

struct ProfileOptions {
  double token_share = 0.4;
  int64_t cluster_layer = -1;   ///< -1: at 25 of 32
  double cluster_neurons = 0.183;  ///< share of neurons that are ones in a text's vector (3,000 of 16,384)
  int64_t clusters = 0;         ///< 0: by the elbow of 1 to 10, at least 4
  uint64_t seed = 1;
};

/// Runs the texts, token ids of at most a context each, through the engine.
/// @throws Error if there are no texts, UsageError if an option cannot be, Interrupted on SIGINT
NeuronProfile make_profile(QuantizedTransformer& engine, std::span<const std::vector<int32_t>> texts, const ProfileOptions& options);

}  // namespace sememe
