#include "sememe/inference/neuron_subset.h"

#include <algorithm>
#include <utility>

#include "sememe/base/error.h"

namespace sememe {
namespace {

void check(const NeuronSets& sets, const TransformerConfig& config) {
  if (static_cast<int64_t>(sets.size()) != config.layers) fail("there are sets of neurons for {} layers, but the model has {}", sets.size(), config.layers);
  for (size_t layer = 0; layer < sets.size(); ++layer) {
    if (!sets[layer]) continue;
    if (sets[layer]->empty()) fail("no neuron of layer {} would take part", layer);
    int32_t before = -1;
    for (const int32_t neuron : *sets[layer]) {
      if (neuron <= before || neuron >= config.feed_forward_width)
        fail("neuron {} of layer {}: neurons are ascending numbers below {}", neuron, layer, config.feed_forward_width);
      before = neuron;
    }
  }
}

std::vector<float> chosen(const std::vector<float>& values, const std::vector<int32_t>& places) {
  std::vector<float> found;
  if (!values.empty())
    for (const int32_t place : places) found.push_back(values[place]);
  return found;
}

}  // namespace

NeuronSubset::NeuronSubset(const TransformerWeights& weights, NeuronSets sets, ThreadTeam& team, std::unique_ptr<NeuronSubset> reused)
    : sets_(std::move(sets)), layers_(sets_.size()) {
  check(sets_, weights.config());
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (!sets_[i]) continue;
    const BlockWeights& block = weights.blocks[i];
    const auto count = static_cast<int64_t>(sets_[i]->size());
    if (block.gate) bytes_ += PanelMemory::rounded(PanelMatrix::bytes(*block.gate, count));
    bytes_ += PanelMemory::rounded(PanelMatrix::bytes(*block.up, count)) + PanelMemory::rounded(ColumnMatrix::bytes(*block.down, *sets_[i]));
  }
  if (reused && reused->memory_ && reused->memory_->bytes() >= bytes_) {
    memory_ = std::move(reused->memory_);
    memory_->clear();
  } else {
    reused.reset();
    memory_ = std::make_unique<PanelMemory>(bytes_ + bytes_ / 16);  // the next one is about as large
  }
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (!sets_[i]) continue;
    const BlockWeights& block = weights.blocks[i];
    const auto count = static_cast<int64_t>(sets_[i]->size());
    Layer& layer = layers_[i].emplace();
    layer.neurons = *sets_[i];
    if (block.gate) layer.gate.emplace(*block.gate, count, *memory_);
    layer.up.emplace(*block.up, count, *memory_);
    layer.down.emplace(*block.down, layer.neurons, *memory_);
    layer.gate_bias = chosen(block.gate_bias, layer.neurons), layer.up_bias = chosen(block.up_bias, layer.neurons);
  }
  team.run([&](int thread) {
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (!layers_[i]) continue;
      const BlockWeights& block = weights.blocks[i];
      Layer& layer = *layers_[i];
      const Share rows(layer.up->panels(), thread, team.size()), columns(layer.down->panels(), thread, team.size());
      if (layer.gate) layer.gate->gather_rows(*block.gate, layer.neurons, rows.begin, rows.end);
      layer.up->gather_rows(*block.up, layer.neurons, rows.begin, rows.end);
      layer.down->gather(*block.down, columns.begin, columns.end);
    }
  });
}

void NeuronSubset::visit(const InputRows& rows, int64_t first, int64_t last, int, int) {
  const std::vector<int32_t>& neurons = layers_[rows.layer]->neurons;
  for (int64_t t = first; t < last; ++t) {
    float* const row = rows.values + t * rows.stride;
    int64_t from = 0;
    for (const int32_t neuron : neurons) {
      std::fill(row + from, row + neuron, 0.0f);
      from = neuron + 1;
    }
    std::fill(row + from, row + rows.width, 0.0f);
  }
}

}  // namespace sememe
