#pragma once
// The quantised engine as a network with sites: what records, replaces and steers by tensors works on it, without gradients.

#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "sememe/inference/quantized_transformer.h"
#include "sememe/inference/sparse_decoder.h"
#include "sememe/language/decoder_network.h"

namespace sememe {

class QuantizedNetwork : public DecoderNetwork {
 public:
  /// @throws Error as QuantizedTransformer
  explicit QuantizedNetwork(const std::filesystem::path& path);

  const TransformerConfig& config() const override { return engine_.config(); }
  const std::vector<Site>& sites() const override { return sites_; }
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override;
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor, KeyValueCache& cache) override;
  torch::Tensor head() const override;
  torch::Tensor final_norm(const torch::Tensor& rows) const override;
  bool has_gradients() const override { return false; }
  /// Activations of more do not stay in the cache between two steps.
  int64_t pass_tokens() const override { return 1024; }
  QuantizedTransformer& engine() { return engine_; }
  /// Passes with a cache read what comes first as a prompt, with all neurons, and decode the rest with those that the options keep; passes without
  /// a cache are of whole texts and use all. One text at a time, or several that begin together.
  /// @throws UsageError as SparseDecoder
  void decode_sparsely(const SparsityOptions& options, std::shared_ptr<const NeuronProfile> profile);
  /// Null without decode_sparsely().
  const SparseDecoder* sparse_decoder() const { return decoder_.get(); }

 private:
  class Visits;
  using Forward = std::function<std::span<const float>(std::span<const TokenRun> runs, RowVisitor& visits)>;
  torch::Tensor run(const torch::Tensor& inputs, SiteVisitor& visitor, std::vector<TokenCache>& sequences, const Forward& forward);

  QuantizedTransformer engine_;
  std::vector<Site> sites_;
  std::vector<TokenCache> sequences_;  ///< of passes without a cache of their own
  std::unique_ptr<SparseDecoder> decoder_;
  int64_t texts_ = 0;  ///< that decoder_ has read
};

}  // namespace sememe
