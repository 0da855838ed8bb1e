#pragma once
// A decoder-only transformer that runs on the weights of a file in the file's own precision, on the CPU, without LibTorch: the other execution of
// the description in sememe/families, with the same sites as sememe/language's.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "sememe/inference/transformer_pass.h"

namespace sememe {

class QuantizedTransformer {
 public:
  /// Maps a GGUF file, or a folder whose weights are floats, and repacks its weights; works on `threads` threads.
  /// @throws Error naming the file and the key, tensor or feature that is missing, malformed or not supported
  QuantizedTransformer(const std::filesystem::path& path, int threads);

  const TransformerConfig& config() const { return weights_.config(); }
  const TransformerWeights& weights() const { return weights_; }
  /// As Transformer's (TransformerPass::sites()).
  const std::vector<TransformerSite>& sites() const { return sites_; }
  /// Bytes of the repacked weights, which decoding one token reads once.
  int64_t weight_bytes() const { return weights_.bytes(); }
  int threads() const { return team_.size(); }

  /// Runs new tokens of one or more sequences. Activations are quantised to bytes in blocks of 32 where weights are; sums are float32. Rows do not
  /// depend on each other but through the caches, so what else runs in the pass changes nothing.
  /// @return logits [sequences, vocabulary] of each run's last token, or [all tokens, vocabulary]; empty if the visitor of sites finished first.
  ///         They stay until the next pass.
  /// @throws Error if an id is none, a context would grow too long, a logit is not finite, or as the visitor of sites does
  std::span<const float> forward(std::span<const TokenRun> runs, LogitsOf wanted = LogitsOf::kLastTokens, const PassWatchers& watchers = {});

  /// The kept neurons' weights. @throws Error as NeuronSubset
  std::unique_ptr<NeuronSubset> keep(NeuronSets sets, std::unique_ptr<NeuronSubset> reused = nullptr);

 private:
  TransformerWeights weights_;
  std::vector<TransformerSite> sites_;
  ThreadTeam team_;
  TransformerPass pass_;
};

}  // namespace sememe
