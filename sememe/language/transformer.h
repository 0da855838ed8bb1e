#pragma once
// A decoder-only transformer that covers all families of sememe/families by configuration.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sememe/families/transformer_config.h"
#include "sememe/network/network.h"

namespace sememe {

/// Keys and values of the tokens seen so far, per layer [batch, key_value_heads, tokens, head_width].
struct KeyValueCache {
  std::vector<torch::Tensor> keys, values;
  int64_t tokens = 0;
};

/// Sites, in order: "embedding" (the residual stream before block 0), then for each block i "blocks.i.attention" (what it adds to the
/// stream), "blocks.i.mlp.input" (the stream behind the MLP's norm), "blocks.i.mlp.act" (its hidden activations), "blocks.i.mlp" (what it
/// adds), "blocks.i.output" (the residual stream after the block), and "norm" (what the head reads).
class Transformer : public Network {
 public:
  /// @throws Error as check_config
  explicit Transformer(TransformerConfig config);
  /// Random weights from the stream (seed, "init/<parameter name>").
  void initialize(uint64_t seed);

  const TransformerConfig& config() const { return config_; }
  const std::vector<Site>& sites() const override { return sites_; }
  /// inputs [batch, tokens] int64 -> logits [batch, tokens, vocabulary]
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override;
  /// As forward, continuing after the tokens in `cache`, which it extends.
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor, KeyValueCache& cache);
  /// Mean next-token cross-entropy in nats; targets [batch, tokens] int64, -100 is left out.
  torch::Tensor loss(const torch::Tensor& logits, const Batch& batch) const override;
  /// Output matrix [vocabulary, width], for the logit lens.
  torch::Tensor head() const;
  /// The last norm applied to rows of the residual stream [n, width].
  torch::Tensor final_norm(const torch::Tensor& rows) const;

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
