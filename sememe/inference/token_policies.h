#pragma once
// Ways to leave out a part of each token's own activations, so that a share `keep` of them remains. They are what CoreInfer's one set for a text
// is held against: they set activations to zero, which shows what each would cost in quality; the products are still those of all weights.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "sememe/inference/core_neurons.h"
#include "sememe/inference/neuron_predictor.h"

namespace sememe {

/// The largest |activation| of each token: what a perfect predictor of each neuron's size would keep.
class LargestActivations : public InputVisitor {
 public:
  LargestActivations(double keep, LayerRange layers) : keep_(keep), layers_(layers) {}
  bool wants(int64_t layer, MatrixInput input) const override { return input == MatrixInput::kMlpDown && layers_.contains(layer); }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override;

 private:
  double keep_;
  LayerRange layers_;
};

/// Neurons whose gate, behind its activation function, is at least a layer's threshold in size (Lee et al. 2024, "CATS", eq. 2); of an MLP
/// without a gate, whose activation is.
class GateThresholds : public InputVisitor {
 public:
  /// @param thresholds [layers]
  GateThresholds(FeedForward kind, std::vector<float> thresholds, LayerRange layers)
      : kind_(kind), thresholds_(std::move(thresholds)), layers_(layers) {}
  bool wants(int64_t layer, MatrixInput input) const override { return input == MatrixInput::kMlpDown && layers_.contains(layer); }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override;

 private:
  FeedForward kind_;
  std::vector<float> thresholds_;
  LayerRange layers_;
};

/// Sets to zero what is smaller in size than the threshold.
void zero_below(float threshold, float* row, int64_t width);

/// Of every matrix's input the values that are at least a threshold in size (Liu et al. 2024, "TEAL", eq. 3).
class InputThresholds : public InputVisitor {
 public:
  /// @param thresholds [layers], of each MatrixInput
  InputThresholds(std::vector<std::array<float, kMatrixInputs>> thresholds, LayerRange layers)
      : thresholds_(std::move(thresholds)), layers_(layers) {}
  bool wants(int64_t layer, MatrixInput) const override { return layers_.contains(layer); }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override;

 private:
  std::vector<std::array<float, kMatrixInputs>> thresholds_;
  LayerRange layers_;
};

/// Neurons that always take part, and of the others those that a predictor names.
class PredictedNeurons : public InputVisitor {
 public:
  enum class Rule {
    kBest,   ///< the `keep` of largest logit (Deja Vu)
    kLikely  ///< those of a probability of at least one half (PowerInfer)
  };
  /// @param always [layers], neurons that take part whatever is predicted
  PredictedNeurons(std::shared_ptr<const std::vector<NeuronPredictor>> predictors, Rule rule, double keep, std::vector<std::vector<int32_t>> always,
                   LayerRange layers)
      : predictors_(std::move(predictors)), rule_(rule), keep_(keep), always_(std::move(always)), layers_(layers) {}
  bool wants(int64_t layer, MatrixInput input) const override { return input == MatrixInput::kMlpDown && layers_.contains(layer); }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override;

 private:
  std::shared_ptr<const std::vector<NeuronPredictor>> predictors_;
  Rule rule_;
  double keep_;
  std::vector<std::vector<int32_t>> always_;
  LayerRange layers_;
};

}  // namespace sememe
