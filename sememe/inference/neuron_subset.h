#pragma once
// Some of the neurons of a model's MLPs, and the weights of these alone. A neuron is a row of gate and up and a column of down.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sememe/inference/matrix_inputs.h"
#include "sememe/inference/panel_matrix.h"
#include "sememe/inference/thread_team.h"
#include "sememe/inference/transformer_weights.h"

namespace sememe {

/// Of each layer the neurons that take part, ascending; nothing where all do.
using NeuronSets = std::vector<std::optional<std::vector<int32_t>>>;

/// Leaves all other neurons out. Where few tokens pass, the engine multiplies by the kept weights alone, elsewhere it sets the others'
/// activations to zero: the same to the bit.
class NeuronSubset : public InputVisitor {
 public:
  struct Layer {
    std::vector<int32_t> neurons;
    std::optional<PanelMatrix> gate, up;
    std::vector<float> gate_bias, up_bias;
    std::optional<ColumnMatrix> down;
  };

  /// Copies the kept weights on the team's threads.
  /// @param reused one that is no longer needed, whose memory is taken if it is large enough
  /// @throws Error naming the layer whose neurons are not ascending numbers below the MLP's width, or none
  NeuronSubset(const TransformerWeights& weights, NeuronSets sets, ThreadTeam& team, std::unique_ptr<NeuronSubset> reused = nullptr);

  const NeuronSets& sets() const { return sets_; }
  /// The layer's kept weights; null where all neurons take part.
  const Layer* layer(int64_t layer) const { return layers_[layer] ? &*layers_[layer] : nullptr; }
  int64_t weight_bytes() const { return bytes_; }

  bool wants(int64_t layer, MatrixInput input) const override { return input == MatrixInput::kMlpDown && layers_[layer]; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override;

 private:
  NeuronSets sets_;
  std::unique_ptr<PanelMemory> memory_;
  std::vector<std::optional<Layer>> layers_;
  int64_t bytes_ = 0;
};

}  // namespace sememe
