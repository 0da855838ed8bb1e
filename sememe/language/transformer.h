#pragma once
// A decoder-only transformer that covers all families of sememe/families by configuration.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
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
  struct Angles {
    torch::Tensor cosines, sines;  // [context, rotated_width / 2]
  };
  /// Which of the keys each new token sees: a bool tensor [tokens, past + tokens], or none where attention needs none to know.
  struct Masks {
    std::optional<torch::Tensor> everywhere, local;
  };
  torch::Tensor run(const torch::Tensor& inputs, SiteVisitor& visitor, KeyValueCache* cache);
  torch::Tensor embed(const torch::Tensor& inputs, int64_t past) const;
  torch::Tensor attend(const Block& block, const torch::Tensor& normed, int64_t layer, const Masks& masks, KeyValueCache* cache) const;
  torch::Tensor mix(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value, const std::optional<torch::Tensor>& mask,
                    bool causal) const;
  std::optional<torch::Tensor> mask(int64_t past, int64_t tokens, int64_t window) const;
  torch::Tensor rotate(const torch::Tensor& rows, const Angles& angles, int64_t past) const;
  torch::Tensor activate(const Block& block, const torch::Tensor& normed) const;
  torch::Tensor normalize(const torch::Tensor& rows, const torch::Tensor& weight, const torch::Tensor& bias) const;
  Angles make_angles(const std::string& prefix, bool local);

  TransformerConfig config_;
  std::vector<Site> sites_;
  torch::Tensor embedding_, positions_, norm_weight_, norm_bias_, head_, head_bias_;  // parameters; undefined where there are none
  Angles angles_, local_angles_;
  std::vector<std::shared_ptr<Block>> blocks_;
};

}  // namespace sememe
