#pragma once
// An encoder of BERT's kind as a network with sites: every token sees all tokens of its text, and the norms stand behind what is added to the
// stream.

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sememe/families/encoder_config.h"
#include "sememe/network/network.h"

namespace sememe {

/// Sites, in order: "embedding" (what enters block 0, behind its norm), then for each block i "blocks.i.attention" (what it adds to the
/// stream), "blocks.i.mlp.input" (the stream behind the attention's norm), "blocks.i.mlp.act" (the MLP's hidden activations), "blocks.i.mlp"
/// (what it adds) and "blocks.i.output" (the stream after the block, behind its norm).
class Encoder : public Network {
 public:
  /// In a row of ids, what stands behind a text that is shorter than another of the batch.
  static constexpr int64_t kPadding = -1;

  /// With weights of zero.
  explicit Encoder(const EncoderConfig& config);

  const EncoderConfig& config() const { return config_; }
  const std::vector<Site>& sites() const override { return sites_; }
  /// inputs [batch, tokens] int64, each row a text and kPadding behind it -> the last block's output [batch, tokens, width]; rows of padding
  /// hold what is to be left aside
  /// @throws Error if the tokens do not fit the context
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override;
  /// @throws Error: the heads that encoders are trained with are not read
  torch::Tensor loss(const torch::Tensor& output, const Batch& batch) const override;

 private:
  struct Block;
  torch::Tensor embed(const torch::Tensor& ids) const;
  torch::Tensor attend(const Block& block, const torch::Tensor& stream, const std::optional<torch::Tensor>& seen) const;
  torch::Tensor activate(const torch::Tensor& hidden) const;
  torch::Tensor normalize(const torch::Tensor& rows, const torch::Tensor& weight, const torch::Tensor& bias) const;

  EncoderConfig config_;
  std::vector<Site> sites_;
  torch::Tensor embedding_, positions_, token_types_, norm_, norm_bias_;
  std::vector<std::shared_ptr<Block>> blocks_;
};

}  // namespace sememe
