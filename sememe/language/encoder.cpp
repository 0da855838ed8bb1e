#include "sememe/language/encoder.h"

#include "sememe/base/error.h"

namespace sememe {

struct Encoder::Block : torch::nn::Module {
  explicit Block(const EncoderConfig& config) {
    const int64_t width = config.width, hidden = config.feed_forward_width;
    const auto matrix = [&](const char* name, int64_t from, int64_t to, torch::Tensor& weight, torch::Tensor& bias) {
      weight = register_parameter(name, torch::zeros({to, from}));
      bias = register_parameter(std::string(name) + "_bias", torch::zeros({to}));
    };
    const auto norm = [&](const char* name, torch::Tensor& weight, torch::Tensor& bias) {
      weight = register_parameter(name, torch::ones({width}));
      bias = register_parameter(std::string(name) + "_bias", torch::zeros({width}));
    };
    matrix("query", width, width, query, query_bias);
    matrix("key", width, width, key, key_bias);
    matrix("value", width, width, value, value_bias);
    matrix("output", width, width, output, output_bias);
    norm("attention_norm", attention_norm, attention_norm_bias);
    matrix("up", width, hidden, up, up_bias);
    matrix("down", hidden, width, down, down_bias);
    norm("mlp_norm", mlp_norm, mlp_norm_bias);
  }

  torch::Tensor query, query_bias, key, key_bias, value, value_bias, output, output_bias;
  torch::Tensor up, up_bias, down, down_bias, attention_norm, attention_norm_bias, mlp_norm, mlp_norm_bias;
};

Encoder::Encoder(const EncoderConfig& config) : config_(config) {
  const torch::NoGradGuard no_grad;
  embedding_ = register_parameter("embedding", torch::zeros({config.vocabulary, config.width}));
  positions_ = register_parameter("positions", torch::zeros({config.context + config.position_offset, config.width}));
  token_types_ = register_parameter("token_types", torch::zeros({config.token_types, config.width}));
  norm_ = register_parameter("embedding_norm", torch::ones({config.width}));
  norm_bias_ = register_parameter("embedding_norm_bias", torch::zeros({config.width}));
  sites_.push_back({"embedding", config.width});
  for (int64_t i = 0; i < config.layers; ++i) {
    blocks_.push_back(register_module(fmt::format("block{}", i), std::make_shared<Block>(config)));
    sites_.push_back({fmt::format("blocks.{}.attention", i), config.width});
    sites_.push_back({fmt::format("blocks.{}.mlp.input", i), config.width});
    sites_.push_back({fmt::format("blocks.{}.mlp.act", i), config.feed_forward_width});
    sites_.push_back({fmt::format("blocks.{}.mlp", i), config.width});
    sites_.push_back({fmt::format("blocks.{}.output", i), config.width});
  }
}

torch::Tensor Encoder::normalize(const torch::Tensor& rows, const torch::Tensor& weight, const torch::Tensor& bias) const {
  return torch::layer_norm(rows, {config_.width}, weight, bias, config_.norm_epsilon);
}

torch::Tensor Encoder::embed(const torch::Tensor& ids) const {
  const torch::Tensor words = torch::embedding(embedding_, ids.clamp_min(0));
  const torch::Tensor positions = positions_.narrow(0, config_.position_offset, ids.size(1));
  return normalize(words + positions + token_types_[0], norm_, norm_bias_);
}

torch::Tensor Encoder::attend(const Block& block, const torch::Tensor& stream, const std::optional<torch::Tensor>& seen) const {
  const int64_t rows = stream.size(0), tokens = stream.size(1), heads = config_.heads;
  const auto project = [&](const torch::Tensor& weight, const torch::Tensor& bias) {
    return torch::linear(stream, weight, bias).view({rows, tokens, heads, config_.width / heads}).transpose(1, 2);
  };
  const torch::Tensor mixed = at::scaled_dot_product_attention(project(block.query, block.query_bias), project(block.key, block.key_bias),
                                                               project(block.value, block.value_bias), seen);
  return torch::linear(mixed.transpose(1, 2).reshape({rows, tokens, config_.width}), block.output, block.output_bias);
}

torch::Tensor Encoder::activate(const torch::Tensor& hidden) const {
  switch (config_.feed_forward) {
    case FeedForward::kGelu: return torch::gelu(hidden, "tanh");
    case FeedForward::kGeluErf: return torch::gelu(hidden);
    case FeedForward::kRelu: return torch::relu(hidden);
    default: fail("the encoder's feed_forward is {}, which encoders do not have", static_cast<int>(config_.feed_forward));
  }
}

torch::Tensor Encoder::forward(const Batch& batch, SiteVisitor& visitor) {
  const torch::Tensor& ids = batch.inputs;
  if (ids.dim() != 2 || ids.scalar_type() != torch::kInt64)
    fail("the encoder takes token ids [batch, tokens] of type int64, not {} of type {}", fmt::join(ids.sizes(), " x "),
         c10::toString(ids.scalar_type()));
  if (ids.size(1) > config_.context) fail("{} tokens do not fit the encoder's context of {}", ids.size(1), config_.context);
  std::optional<torch::Tensor> seen;  // [batch, 1, 1, tokens]: no token looks at padding
  if (const torch::Tensor text = ids.ne(kPadding); !text.all().item<bool>()) seen = text.unsqueeze(1).unsqueeze(1);
  size_t site = 0;
  torch::Tensor stream = pass(sites_[site++], embed(ids), visitor);
  for (const std::shared_ptr<Block>& block : blocks_) {
    if (visitor.finished()) return {};
    const torch::Tensor attention = pass(sites_[site++], attend(*block, stream, seen), visitor);
    if (visitor.finished()) return {};
    const torch::Tensor input = pass(sites_[site++], normalize(stream + attention, block->attention_norm, block->attention_norm_bias), visitor);
    if (visitor.finished()) return {};
    const torch::Tensor hidden = pass(sites_[site++], activate(torch::linear(input, block->up, block->up_bias)), visitor);
    if (visitor.finished()) return {};
    const torch::Tensor mlp = pass(sites_[site++], torch::linear(hidden, block->down, block->down_bias), visitor);
    if (visitor.finished()) return {};
    stream = pass(sites_[site++], normalize(input + mlp, block->mlp_norm, block->mlp_norm_bias), visitor);
  }
  return visitor.finished() ? torch::Tensor() : stream;
}

torch::Tensor Encoder::loss(const torch::Tensor&, const Batch&) const {
  fail("an encoder has no loss here: the head that it was trained with is not read");
}

}  // namespace sememe
