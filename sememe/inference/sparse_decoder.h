#pragma once
// Decoding with a part of each MLP: a prompt is read with all neurons, what follows it with those that a policy keeps. The policies are those of
// CoreInfer (Wang et al. 2024, arXiv 2410.18311), its fork PartInfer, and what they are held against.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/inference/core_neurons.h"
#include "sememe/inference/neuron_profile.h"
#include "sememe/inference/quantized_transformer.h"

namespace sememe {

enum class SparsePolicy {
  kDense,
  kCoreStability,   ///< the prompt's own core neurons
  kCoreSimilarity,  ///< those of the texts that are most like the prompt
  kPartInfer,       ///< among the most important neurons, a fixed part and the prompt's core
  kStatic,          ///< those most often core in the profile's texts
  kMagnitude,       ///< those with the longest columns of down
  kRandom,
  kOracle,     ///< each token's own largest activations
  kCats,       ///< a threshold for the gate
  kTeal,       ///< a threshold for every matrix's input
  kDejaVu,     ///< the likeliest by a predictor
  kPowerInfer  ///< often positive ones, and of the others those that a predictor expects; of ReLU models
};

struct SparsePolicyEntry {
  SparsePolicy policy;
  std::string_view name;  ///< as on the command line
  bool needs_profile;
  bool one_set;  ///< for a whole text, so that the other weights are not read
  bool needs_predictors = false;
  bool needs_relu = false;

  /// Whether it works on the model with the profile, which may be null.
  bool fits(const TransformerConfig& config, const NeuronProfile* profile) const;
};
std::span<const SparsePolicyEntry> sparse_policies();
/// @throws UsageError listing the names there are
const SparsePolicyEntry& find_sparse_policy(std::string_view name);

struct SparsityOptions {
  std::string policy = "dense";
  double keep = 0.4;                 ///< share of the neurons, of each layer of the range
  CoreNeuronOptions core = {};
  std::optional<LayerRange> layers = {};  ///< middle_layers() if not given
  int64_t refresh = 0;               ///< coreinfer-stability: after so many tokens these are read again with all neurons, and the set chosen anew; 0: never
  int64_t least_prompt = 6;          ///< tokens; shorter prompts say too little: the profile's static set is taken, or without one all neurons
  double loaded = 0.7;               ///< partinfer: share of the neurons that the list allows at all
  double base = 0.3;                 ///< partinfer: share that always takes part
  std::filesystem::path neurons = {};  ///< partinfer: a list of its format instead of the profile's
  uint64_t seed = 1;
};

class SparseDecoder {
 public:
  /// @param profile of the model; may be null where the policy does without
  /// @throws UsageError if the options cannot be or the policy lacks what it needs; as load_neuron_list()
  SparseDecoder(QuantizedTransformer& engine, const SparsityOptions& options, std::shared_ptr<const NeuronProfile> profile);
  ~SparseDecoder();

  /// Reads prompts with all neurons and decides what follows them is decoded with. As QuantizedTransformer::forward().
  std::span<const float> read(std::span<const TokenRun> prompts, LogitsOf wanted = LogitsOf::kLastTokens, RowVisitor* sites = nullptr);
  /// Goes on, with what was decided. As QuantizedTransformer::forward().
  std::span<const float> decode(std::span<const TokenRun> runs, LogitsOf wanted = LogitsOf::kLastTokens, RowVisitor* sites = nullptr);

  /// The set in use; null where the policy has none or all neurons take part.
  const NeuronSubset* subset() const { return dense_ ? nullptr : subset_.get(); }
  const SparsityOptions& options() const { return options_; }
  LayerRange layers() const { return layers_; }
  /// Seconds that choosing and copying the set took the last time, beside the reading of the prompt.
  double seconds() const { return seconds_; }
  /// Why all neurons take part though the policy would leave some out; empty if it does.
  const std::string& exception() const { return exception_; }

 private:
  void choose();
  void keep(NeuronSets sets);
  NeuronSets leading(const std::vector<std::vector<int32_t>>& rankings) const;
  NeuronSets fixed_sets() const;
  NeuronSets part_infer_sets() const;
  NeuronSets similar_sets() const;
  void read_again(const TokenRun& run);

  QuantizedTransformer& engine_;
  SparsityOptions options_;
  const SparsePolicyEntry& entry_;
  std::shared_ptr<const NeuronProfile> profile_;
  LayerRange layers_;
  std::unique_ptr<CoreNeurons> core_, similarity_;
  std::vector<std::vector<int32_t>> important_;  ///< partinfer's list
  std::unique_ptr<InputVisitor> each_token_;
  std::unique_ptr<NeuronSubset> subset_;
  bool dense_ = true;
  std::vector<int32_t> since_;  ///< tokens decoded since the set was chosen
  double seconds_ = 0;
  std::string exception_;
};

}  // namespace sememe
