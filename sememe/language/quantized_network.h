#pragma once
// The quantised engine as a network with sites: what records, replaces and steers by tensors works on it, without gradients.

#include <filesystem>
#include <memory>
#include <vector>

#include "sememe/inference/quantized_transformer.h"
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
  const GgufFile& file() const { return engine_.file(); }

 private:
  class Visits;
  torch::Tensor run(const torch::Tensor& inputs, SiteVisitor& visitor, std::vector<TokenCache>& sequences, LogitsOf wanted);

  QuantizedTransformer engine_;
  std::vector<Site> sites_;
  std::vector<TokenCache> sequences_;  ///< of passes without a cache of their own
};

}  // namespace sememe
