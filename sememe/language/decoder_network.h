#pragma once
// A decoder-only language model as a network with sites, whatever executes it.

#include <torch/torch.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "sememe/families/transformer_config.h"
#include "sememe/inference/token_cache.h"
#include "sememe/network/network.h"

namespace sememe {

/// Keys and values of the tokens seen so far; begins empty.
struct KeyValueCache {
  std::vector<torch::Tensor> keys, values;  ///< of a Transformer: per layer [batch, key_value_heads, tokens, head_width]
  std::vector<TokenCache> sequences;        ///< of a QuantizedNetwork: one for each row of the batch
  int64_t tokens = 0;
  int64_t text = 0;  ///< of a QuantizedNetwork that decodes sparsely: which of the texts it has read this is
};

/// Sites, in order: "embedding" (the residual stream before block 0), then for each block i "blocks.i.attention" (what it adds to the
/// stream), "blocks.i.mlp.input" (the stream behind the MLP's norm), "blocks.i.mlp.act" (its hidden activations), "blocks.i.mlp" (what it
/// adds), "blocks.i.output" (the residual stream after the block), and "norm" (what the head reads).
class DecoderNetwork : public Network {
 public:
  virtual const TransformerConfig& config() const = 0;
  /// inputs [batch, tokens] int64 -> logits [batch, tokens, vocabulary]
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override = 0;
  /// As forward, continuing after the tokens in `cache`, which it extends -> logits [batch, 1, vocabulary] of the last token
  virtual torch::Tensor forward(const Batch& batch, SiteVisitor& visitor, KeyValueCache& cache) = 0;
  /// Mean next-token cross-entropy in nats; targets [batch, tokens] int64, -100 is left out.
  torch::Tensor loss(const torch::Tensor& logits, const Batch& batch) const override {
    return torch::nn::functional::cross_entropy(logits.view({-1, config().vocabulary}), batch.targets.reshape({-1}),
                                                torch::nn::functional::CrossEntropyFuncOptions().ignore_index(-100));
  }
  /// Output matrix [vocabulary, width] in float32, for the logit lens.
  virtual torch::Tensor head() const = 0;
  /// The last norm applied to rows of the residual stream [n, width].
  virtual torch::Tensor final_norm(const torch::Tensor& rows) const = 0;
  /// Whether a backward pass can run through it.
  virtual bool has_gradients() const { return true; }
  /// Tokens that a pass should have at most, be they of one text or of several: more would be slower.
  virtual int64_t pass_tokens() const { return std::numeric_limits<int64_t>::max(); }
  /// Where its inputs belong.
  torch::Device device() const {
    const std::vector<torch::Tensor> all = parameters();
    return all.empty() ? torch::Device(torch::kCPU) : all.front().device();
  }
};

}  // namespace sememe
