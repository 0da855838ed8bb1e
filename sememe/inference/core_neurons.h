#pragma once
// Which neurons of an MLP a text keeps firing: its core neurons (Wang et al. 2024, "CoreInfer", arXiv 2410.18311).
//
// A token's core neurons are those of its `token_share` largest positive activations; a text's are those that are so for the most tokens. The
// number for a token is the share of the tokens' mean number of positive activations, one for all tokens of a pass, as the published code has it;
// or of the token's own (PartInfer).

#include <cstdint>
#include <vector>

#include "sememe/families/transformer_config.h"
#include "sememe/inference/neuron_subset.h"

namespace sememe {

/// What a neuron is ranked by; only positive values count.
enum class RankBy {
  kProduct,          ///< its activation, what down is multiplied by
  kGate,             ///< what its gate gives before the activation function (the published clustering script)
  kAbsoluteProduct,  ///< the size of its activation
};

struct CoreNeuronOptions {
  double token_share = 0.2;  ///< above 0, at most 1
  bool own_number = false;   ///< of each token, not of the pass
  RankBy rank_by = RankBy::kProduct;
};

/// Layers first to last, both among them.
struct LayerRange {
  int64_t first, last;
  bool contains(int64_t layer) const { return layer >= first && layer <= last; }
};

/// Of 32 layers 6 to 26, as published, and the same share of others.
LayerRange middle_layers(const TransformerConfig& config);

/// Counts core neurons of all tokens of the passes that it watches. The counts do not depend on the number of threads.
class CoreNeurons : public InputVisitor {
 public:
  CoreNeurons(const TransformerConfig& config, const CoreNeuronOptions& options, LayerRange layers, int threads);

  bool wants(int64_t layer, MatrixInput input) const override { return input == MatrixInput::kMlpDown && layers_.contains(layer); }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override;

  /// Forgets what was counted.
  void clear();
  int64_t tokens() const;
  /// [width]: for how many tokens each neuron was among the core
  std::vector<int32_t> counts(int64_t layer) const;
  /// All neurons of a layer that ever were, the most frequent first; of equally frequent ones the one with the larger sum of values, then the
  /// lower.
  std::vector<int32_t> ranking(int64_t layer) const;
  /// Of each layer of the range the round(keep x width), at least one, that lead its ranking, fewer if it has fewer; all where nothing fired.
  NeuronSets sets(double keep) const;

 private:
  struct Layer {
    std::vector<int32_t> counts;
    std::vector<int64_t> sums;  ///< of values while among the core, in 2^-16
  };
  struct alignas(64) Own {
    std::vector<Layer> layers;
    std::vector<float> values, candidates;  ///< of the token at hand: the positive ones, and of these those of one bin
    std::vector<int32_t> neurons, histogram;  ///< whose values they are; values by size
    int64_t tokens = 0;
  };
  void take_positives(const float* row, int64_t width, Own& own) const;
  float least_of_core(Own& own, int64_t number) const;
  /// The first `most` of the ranking, in its order or in any.
  std::vector<int32_t> leading(int64_t layer, size_t most, bool ordered) const;

  TransformerConfig config_;
  CoreNeuronOptions options_;
  LayerRange layers_;
  std::vector<Own> own_;
};

/// round(keep x width), at least 1. @throws UsageError unless 0 < keep <= 1
int64_t kept_of(double keep, int64_t width);

}  // namespace sememe
