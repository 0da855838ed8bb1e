#pragma once
// A decoder-only transformer that covers the GPT-2 and Llama families by configuration.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sememe/language/decoder_network.h"

namespace sememe {

class Transformer : public DecoderNetwork {
 public:
  /// @throws Error as check_config
  explicit Transformer(TransformerConfig config);
  /// Random weights from the stream (seed, "init/<parameter name>").
  void initialize(uint64_t seed);

  const TransformerConfig& config() const override { return config_; }
  const std::vector<Site>& sites() const override { return sites_; }
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override;
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor, KeyValueCache& cache) override;
  torch::Tensor head() const override;
  torch::Tensor final_norm(const torch::Tensor& rows) const override;

 private:
  struct Block;
  torch::Tensor run(const torch::Tensor& inputs, SiteVisitor& visitor, KeyValueCache* cache);
  torch::Tensor embed(const torch::Tensor& inputs, int64_t past) const;
  torch::Tensor attend(const Block& block, const torch::Tensor& stream, int64_t layer, KeyValueCache* cache) const;
  torch::Tensor activate(const Block& block, const torch::Tensor& normed) const;
  torch::Tensor normalize(const torch::Tensor& rows, const torch::Tensor& weight, const torch::Tensor& bias) const;

  TransformerConfig config_;
  std::vector<Site> sites_;
  torch::Tensor embedding_, positions_, norm_weight_, norm_bias_, head_;  // parameters; undefined where there are none
  torch::Tensor cosines_, sines_;                                         // [context, head_width / 2]
  std::vector<std::shared_ptr<Block>> blocks_;
};

}  // namespace sememe
