#include "sememe/language/transformer.h"

#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/network/rms_norm.h"

namespace sememe {

namespace {

/// Rotates each pair (x_j, x_{j + half}) by its angle: the half-rotation layout of Llama (Su et al. 2021, eq. 34). Its own
/// function because the gradient is the inverse rotation, which autograd would otherwise rebuild from eight passes.
struct Rotate : torch::autograd::Function<Rotate> {
  static torch::Tensor apply_angles(const torch::Tensor& rows, const torch::Tensor& cosines, const torch::Tensor& sines,
                                    double direction) {
    const int64_t half = rows.size(-1) / 2;
    torch::Tensor rotated = torch::empty_like(rows);
    torch::Tensor first = rotated.narrow(-1, 0, half), second = rotated.narrow(-1, half, half);
    const torch::Tensor x = rows.narrow(-1, 0, half), y = rows.narrow(-1, half, half);
    torch::mul_out(first, x, cosines);
    first.addcmul_(y, sines, -direction);
    torch::mul_out(second, y, cosines);
    second.addcmul_(x, sines, direction);
    return rotated;
  }
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& rows,
                               const torch::Tensor& cosines, const torch::Tensor& sines) {
    context->save_for_backward({cosines, sines});
    return apply_angles(rows, cosines, sines, 1.0);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    return {apply_angles(gradients[0], saved[0], saved[1], -1.0), torch::Tensor(), torch::Tensor()};
  }
};

}  // namespace

struct Transformer::Block : torch::nn::Module {
  explicit Block(const TransformerConfig& config) {
    const int64_t width = config.width, queries = config.heads * config.head_width;
    const int64_t keys = config.key_value_heads * config.head_width, hidden = config.feed_forward_width;
    const bool layer_norm = config.norm == Norm::kLayer;
    attention_norm = register_parameter("attention_norm", torch::ones({width}));
    if (layer_norm) attention_norm_bias = register_parameter("attention_norm_bias", torch::zeros({width}));
    mlp_norm = register_parameter("mlp_norm", torch::ones({width}));
    if (layer_norm) mlp_norm_bias = register_parameter("mlp_norm_bias", torch::zeros({width}));
    const auto product = [&](const char* name, int64_t from, int64_t to, torch::Tensor& weight, torch::Tensor& bias) {
      weight = register_parameter(name, torch::zeros({to, from}));
      if (config.bias) bias = register_parameter(std::string(name) + "_bias", torch::zeros({to}));
    };
    product("query", width, queries, query, query_bias);
    product("key", width, keys, key, key_bias);
    product("value", width, keys, value, value_bias);
    product("output", queries, width, output, output_bias);
    if (config.feed_forward == FeedForward::kGatedSilu) product("gate", width, hidden, gate, gate_bias);
    product("up", width, hidden, up, up_bias);
    product("down", hidden, width, down, down_bias);
  }

  torch::Tensor attention_norm, attention_norm_bias, mlp_norm, mlp_norm_bias;
  torch::Tensor query, query_bias, key, key_bias, value, value_bias, output, output_bias;
  torch::Tensor gate, gate_bias, up, up_bias, down, down_bias;
};

Transformer::Transformer(TransformerConfig config) : config_(config) {
  check_config(config_);
  torch::NoGradGuard no_grad;
  embedding_ = register_parameter("embedding", torch::zeros({config_.vocabulary, config_.width}));
  if (config_.positions == Positions::kLearned)
    positions_ = register_parameter("positions", torch::zeros({config_.context, config_.width}));
  sites_.push_back({"embedding", config_.width});
  for (int64_t i = 0; i < config_.layers; ++i) {
    blocks_.push_back(register_module(fmt::format("block{}", i), std::make_shared<Block>(config_)));
    sites_.push_back({fmt::format("blocks.{}.attention", i), config_.width});
    sites_.push_back({fmt::format("blocks.{}.mlp.input", i), config_.width});
    sites_.push_back({fmt::format("blocks.{}.mlp.act", i), config_.feed_forward_width});
    sites_.push_back({fmt::format("blocks.{}.mlp", i), config_.width});
    sites_.push_back({fmt::format("blocks.{}.output", i), config_.width});
  }
  sites_.push_back({"norm", config_.width});
  norm_weight_ = register_parameter("norm", torch::ones({config_.width}));
  if (config_.norm == Norm::kLayer) norm_bias_ = register_parameter("norm_bias", torch::zeros({config_.width}));
  if (!config_.tied_head) head_ = register_parameter("head", torch::zeros({config_.vocabulary, config_.width}));
  if (config_.positions != Positions::kRotary) return;
  const int64_t half = config_.head_width / 2;
  const torch::Tensor exponents = torch::arange(half, torch::kFloat32) * 2 / config_.head_width;
  const torch::Tensor frequencies = torch::pow(config_.rotary_base, exponents).reciprocal();
  const torch::Tensor angles = torch::outer(torch::arange(config_.context, torch::kFloat32), frequencies);
  cosines_ = register_buffer("cosines", angles.cos());
  sines_ = register_buffer("sines", angles.sin());
}

void Transformer::initialize(uint64_t seed) {
  torch::NoGradGuard no_grad;
  for (auto& item : named_parameters()) {
    torch::Tensor& parameter = item.value();
    const std::string& name = item.key();
    if (parameter.dim() != 2) continue;  // norms stay one, biases zero
    const std::string last = name.substr(name.rfind('.') + 1);
    double deviation = 1.0 / std::sqrt(static_cast<double>(parameter.size(1)));
    if (last == "embedding" || last == "positions" || last == "head") deviation = 0.02;
    // What writes to the residual stream starts small, so that the stream's size does not grow with depth (GPT-2, section 2.3).
    if (last == "output" || last == "down") deviation /= std::sqrt(2.0 * config_.layers);
    RandomStream stream(seed, "init/" + name);
    torch::Tensor values = torch::empty(parameter.sizes(), torch::kFloat32);
    float* const data = values.mutable_data_ptr<float>();
    for (int64_t i = 0; i < values.numel(); ++i) data[i] = static_cast<float>(deviation * stream.normal());
    parameter.copy_(values);
  }
}

torch::Tensor Transformer::normalize(const torch::Tensor& rows, const torch::Tensor& weight,
                                     const torch::Tensor& bias) const {
  if (config_.norm == Norm::kLayer) return torch::layer_norm(rows, {config_.width}, weight, bias, config_.norm_epsilon);
  return rms_norm(rows, weight, config_.norm_epsilon);
}

torch::Tensor Transformer::embed(const torch::Tensor& inputs, int64_t past) const {
  torch::Tensor stream = torch::embedding(embedding_, inputs);
  if (positions_.defined()) stream = stream + positions_.narrow(0, past, inputs.size(1));
  return stream;
}

torch::Tensor Transformer::attend(const Block& block, const torch::Tensor& stream, int64_t layer,
                                  KeyValueCache* cache) const {
  const int64_t rows = stream.size(0), tokens = stream.size(1), past = cache ? cache->tokens : 0;
  const torch::Tensor normed = normalize(stream, block.attention_norm, block.attention_norm_bias);
  const auto project = [&](const torch::Tensor& weight, const torch::Tensor& bias, int64_t heads) {
    return torch::linear(normed, weight, bias).view({rows, tokens, heads, config_.head_width}).transpose(1, 2);
  };
  torch::Tensor query = project(block.query, block.query_bias, config_.heads);
  torch::Tensor key = project(block.key, block.key_bias, config_.key_value_heads);
  torch::Tensor value = project(block.value, block.value_bias, config_.key_value_heads);
  if (config_.positions == Positions::kRotary) {
    const torch::Tensor cosines = cosines_.narrow(0, past, tokens), sines = sines_.narrow(0, past, tokens);
    query = Rotate::apply(query, cosines, sines);
    key = Rotate::apply(key, cosines, sines);
  }
  if (cache) {
    torch::Tensor& keys = cache->keys[layer];
    torch::Tensor& values = cache->values[layer];
    key = keys = past ? torch::cat({keys, key}, 2) : key;
    value = values = past ? torch::cat({values, value}, 2) : value;
  }
  std::optional<torch::Tensor> mask;  // row i of the new tokens sees all of the past and the new ones up to itself
  if (past > 0 && tokens > 1)
    mask = torch::ones({tokens, past + tokens}, query.options().dtype(torch::kBool)).tril(past);
  const bool grouped = config_.heads != config_.key_value_heads;
  const torch::Tensor mixed = at::scaled_dot_product_attention(query, key, value, mask, 0.0, past == 0 && tokens > 1,
                                                               std::nullopt, grouped);
  const torch::Tensor joined = mixed.transpose(1, 2).reshape({rows, tokens, config_.heads * config_.head_width});
  return torch::linear(joined, block.output, block.output_bias);
}

torch::Tensor Transformer::activate(const Block& block, const torch::Tensor& normed) const {
  const torch::Tensor up = torch::linear(normed, block.up, block.up_bias);
  if (config_.feed_forward == FeedForward::kGelu) return torch::gelu(up, "tanh");
  return torch::silu(torch::linear(normed, block.gate, block.gate_bias)) * up;
}

torch::Tensor Transformer::run(const torch::Tensor& inputs, SiteVisitor& visitor, KeyValueCache* cache) {
  const int64_t past = cache ? cache->tokens : 0;
  if (inputs.dim() != 2 || inputs.scalar_type() != torch::kInt64)
    fail("the transformer takes token ids [batch, tokens] of type int64, not {} of type {}", fmt::join(inputs.sizes(), " x "),
         c10::toString(inputs.scalar_type()));
  if (past + inputs.size(1) > config_.context)
    fail("{} tokens do not fit the transformer's context of {}", past + inputs.size(1), config_.context);
  size_t site = 0;
  torch::Tensor stream = pass(sites_[site++], embed(inputs, past), visitor);
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const Block& block = *blocks_[layer];
    if (visitor.finished()) return {};
    const torch::Tensor attention = pass(sites_[site++], attend(block, stream, layer, cache), visitor);
    if (visitor.finished()) return {};
    stream = stream + attention;
    const torch::Tensor input = pass(sites_[site++], normalize(stream, block.mlp_norm, block.mlp_norm_bias), visitor);
    if (visitor.finished()) return {};
    const torch::Tensor hidden = pass(sites_[site++], activate(block, input), visitor);
    if (visitor.finished()) return {};
    const torch::Tensor mlp = pass(sites_[site++], torch::linear(hidden, block.down, block.down_bias), visitor);
    if (visitor.finished()) return {};
    stream = pass(sites_[site++], stream + mlp, visitor);
  }
  if (visitor.finished()) return {};
  torch::Tensor normed = pass(sites_[site], final_norm(stream), visitor);
  if (visitor.finished()) return {};
  if (cache) {
    cache->tokens += inputs.size(1);
    normed = normed.narrow(1, inputs.size(1) - 1, 1);
  }
  return torch::linear(normed, head());
}

torch::Tensor Transformer::forward(const Batch& batch, SiteVisitor& visitor) { return run(batch.inputs, visitor, nullptr); }

torch::Tensor Transformer::forward(const Batch& batch, SiteVisitor& visitor, KeyValueCache& cache) {
  cache.keys.resize(config_.layers);
  cache.values.resize(config_.layers);
  return run(batch.inputs, visitor, &cache);
}

torch::Tensor Transformer::head() const { return config_.tied_head ? embedding_ : head_; }

torch::Tensor Transformer::final_norm(const torch::Tensor& rows) const { return normalize(rows, norm_weight_, norm_bias_); }

}  // namespace sememe
