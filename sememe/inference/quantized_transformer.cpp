#include "sememe/inference/quantized_transformer.h"

#include <utility>

namespace sememe {

QuantizedTransformer::QuantizedTransformer(const std::filesystem::path& path, int threads)
    : weights_(path), sites_(TransformerPass::sites(weights_.config())), team_(threads), pass_(weights_, team_) {}

std::span<const float> QuantizedTransformer::forward(std::span<const TokenRun> runs, LogitsOf wanted, const PassWatchers& watchers) {
  if (runs.empty()) return {};
  return pass_.run(runs, wanted, watchers);
}

std::unique_ptr<NeuronSubset> QuantizedTransformer::keep(NeuronSets sets, std::unique_ptr<NeuronSubset> reused) {
  return std::make_unique<NeuronSubset>(weights_, std::move(sets), team_, std::move(reused));
}

}  // namespace sememe
