#include "sememe/language/transformer.h"

#include <algorithm>
#include <cmath>
#include <limits>

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
    const auto norm = [&](const char* name, torch::Tensor& weight, torch::Tensor& bias) {
      weight = register_parameter(name, torch::ones({width}));
      if (config.norm == Norm::kLayer) bias = register_parameter(std::string(name) + "_bias", torch::zeros({width}));
    };
    norm("attention_norm", attention_norm, attention_norm_bias);
    if (config.residual != Residual::kParallelOneNorm) norm("mlp_norm", mlp_norm, mlp_norm_bias);
    if (config.post_norms) {
      norm("attention_post_norm", attention_post_norm, attention_post_norm_bias);
      norm("mlp_post_norm", mlp_post_norm, mlp_post_norm_bias);
    }
    if (config.query_key_norm) {
      query_norm = register_parameter("query_norm", torch::ones({config.head_width}));
      key_norm = register_parameter("key_norm", torch::ones({config.head_width}));
    }
    const auto product = [&](const char* name, int64_t from, int64_t to, torch::Tensor& weight, torch::Tensor& bias, bool with_bias) {
      weight = register_parameter(name, torch::zeros({to, from}));
      if (with_bias) bias = register_parameter(std::string(name) + "_bias", torch::zeros({to}));
    };
    product("query", width, queries, query, query_bias, config.bias || config.qkv_bias);
    product("key", width, keys, key, key_bias, config.bias || config.qkv_bias);
    product("value", width, keys, value, value_bias, config.bias || config.qkv_bias);
    product("output", queries, width, output, output_bias, config.bias);
    if (is_gated(config)) product("gate", width, hidden, gate, gate_bias, config.bias);
    product("up", width, hidden, up, up_bias, config.bias);
    product("down", hidden, width, down, down_bias, config.bias);
  }

  torch::Tensor attention_norm, attention_norm_bias, mlp_norm, mlp_norm_bias, query_norm, key_norm;
  torch::Tensor attention_post_norm, attention_post_norm_bias, mlp_post_norm, mlp_post_norm_bias;
  torch::Tensor query, query_bias, key, key_bias, value, value_bias, output, output_bias;
  torch::Tensor gate, gate_bias, up, up_bias, down, down_bias;
};

Transformer::Transformer(TransformerConfig config) : config_(std::move(config)) {
  check_config(config_);
  torch::NoGradGuard no_grad;
  embedding_ = register_parameter("embedding", torch::zeros({config_.vocabulary, config_.width}));
  if (config_.positions == Positions::kLearned)
    positions_ = register_parameter("positions", torch::zeros({config_.context + config_.position_offset, config_.width}));
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
  if (config_.head_bias) head_bias_ = register_parameter("head_bias", torch::zeros({config_.vocabulary}));
  if (config_.positions != Positions::kRotary) return;
  angles_ = make_angles("", false);
  local_angles_ = config_.local_rotary_base == 0 ? angles_ : make_angles("local_", true);
}

Transformer::Angles Transformer::make_angles(const std::string& prefix, bool local) {
  const std::vector<double> frequencies = rotary_frequencies(config_, local);
  // A frequency is rounded once, as files and other libraries keep them.
  const torch::Tensor angles = torch::outer(torch::arange(config_.context, torch::kFloat32), torch::tensor(frequencies, torch::kFloat32));
  const double magnitude = rotary_magnitude(config_, local);
  return {register_buffer(prefix + "cosines", angles.cos() * magnitude), register_buffer(prefix + "sines", angles.sin() * magnitude)};
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
  if (config_.embedding_scale != 1.0) stream = stream * config_.embedding_scale;
  if (positions_.defined()) stream = stream + positions_.narrow(0, past + config_.position_offset, inputs.size(1));
  return stream;
}

torch::Tensor Transformer::rotate(const torch::Tensor& rows, const Angles& angles, int64_t past) const {
  const int64_t tokens = rows.size(2), rotated = rotated_width(config_);
  const torch::Tensor cosines = angles.cosines.narrow(0, past, tokens), sines = angles.sines.narrow(0, past, tokens);
  if (rotated == config_.head_width) return Rotate::apply(rows, cosines, sines);
  return torch::cat({Rotate::apply(rows.narrow(-1, 0, rotated), cosines, sines), rows.narrow(-1, rotated, config_.head_width - rotated)}, -1);
}

std::optional<torch::Tensor> Transformer::mask(int64_t past, int64_t tokens, int64_t window) const {
  const bool windowed = window > 0 && past + tokens > window;
  if (tokens == 1) return std::nullopt;  // sees all that it is given
  if (past == 0 && !windowed && config_.attention_softcap == 0) return std::nullopt;  // attention knows what is causal
  const auto options = torch::dtype(torch::kBool).device(embedding_.device());
  const torch::Tensor mask = torch::ones({tokens, past + tokens}, options).tril(past);
  return windowed ? mask.triu(past - window + 1) : mask;
}

torch::Tensor Transformer::mix(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                               const std::optional<torch::Tensor>& mask, bool causal) const {
  const bool grouped = config_.heads != config_.key_value_heads;
  if (config_.attention_softcap == 0) {
    std::optional<double> scale;
    if (config_.attention_scale != 0) scale = config_.attention_scale;
    return at::scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale, grouped);
  }
  const int64_t group = config_.heads / config_.key_value_heads;
  const torch::Tensor keys = grouped ? key.repeat_interleave(group, 1) : key, values = grouped ? value.repeat_interleave(group, 1) : value;
  torch::Tensor scores = torch::matmul(query, keys.transpose(-1, -2)) * attention_scale(config_);
  scores = torch::tanh(scores / config_.attention_softcap) * config_.attention_softcap;
  if (mask) scores = scores.masked_fill(mask->logical_not(), -std::numeric_limits<float>::infinity());
  return torch::matmul(torch::softmax(scores, -1), values);
}

torch::Tensor Transformer::attend(const Block& block, const torch::Tensor& normed, int64_t layer, const Masks& masks,
                                  KeyValueCache* cache) const {
  const int64_t rows = normed.size(0), tokens = normed.size(1), past = cache ? cache->tokens : 0;
  const auto project = [&](const torch::Tensor& weight, const torch::Tensor& bias, int64_t heads, const torch::Tensor& norm) {
    torch::Tensor projected = torch::linear(normed, weight, bias).view({rows, tokens, heads, config_.head_width});
    if (norm.defined()) projected = rms_norm(projected, norm, config_.norm_epsilon);
    return projected.transpose(1, 2);
  };
  const bool local = is_local(config_, layer);
  torch::Tensor query = project(block.query, block.query_bias, config_.heads, block.query_norm);
  torch::Tensor key = project(block.key, block.key_bias, config_.key_value_heads, block.key_norm);
  torch::Tensor value = project(block.value, block.value_bias, config_.key_value_heads, {});
  if (config_.positions == Positions::kRotary) {
    query = rotate(query, local ? local_angles_ : angles_, past);
    key = rotate(key, local ? local_angles_ : angles_, past);
  }
  if (cache) {
    torch::Tensor& keys = cache->keys[layer];
    torch::Tensor& values = cache->values[layer];
    key = keys = past ? torch::cat({keys, key}, 2) : key;
    value = values = past ? torch::cat({values, value}, 2) : value;
  }
  if (local && tokens == 1 && key.size(2) > config_.window) {
    key = key.narrow(2, key.size(2) - config_.window, config_.window);
    value = value.narrow(2, value.size(2) - config_.window, config_.window);
  }
  const std::optional<torch::Tensor>& mask = local ? masks.local : masks.everywhere;
  const torch::Tensor mixed = mix(query, key, value, mask, !mask && tokens > 1);
  const torch::Tensor joined = mixed.transpose(1, 2).reshape({rows, tokens, config_.heads * config_.head_width});
  const torch::Tensor output = torch::linear(joined, block.output, block.output_bias);
  return config_.post_norms ? normalize(output, block.attention_post_norm, block.attention_post_norm_bias) : output;
}

torch::Tensor Transformer::activate(const Block& block, const torch::Tensor& normed) const {
  const torch::Tensor up = torch::linear(normed, block.up, block.up_bias);
  const auto gate = [&] { return torch::linear(normed, block.gate, block.gate_bias); };
  switch (config_.feed_forward) {
    case FeedForward::kGelu: return torch::gelu(up, "tanh");
    case FeedForward::kGeluErf: return torch::gelu(up);
    case FeedForward::kRelu: return torch::relu(up);
    case FeedForward::kGatedSilu: return torch::silu(gate()) * up;
    case FeedForward::kGatedGelu: return torch::gelu(gate(), "tanh") * up;
    case FeedForward::kGatedRelu: return torch::relu(gate()) * up;
  }
  fail("the transformer's feed_forward is {}, which is none of those there are", static_cast<int>(config_.feed_forward));
}

torch::Tensor Transformer::run(const torch::Tensor& inputs, SiteVisitor& visitor, KeyValueCache* cache) {
  const int64_t past = cache ? cache->tokens : 0;
  if (inputs.dim() != 2 || inputs.scalar_type() != torch::kInt64)
    fail("the transformer takes token ids [batch, tokens] of type int64, not {} of type {}", fmt::join(inputs.sizes(), " x "),
         c10::toString(inputs.scalar_type()));
  if (past + inputs.size(1) > config_.context)
    fail("{} tokens do not fit the transformer's context of {}", past + inputs.size(1), config_.context);
  const int64_t tokens = inputs.size(1);
  const bool any_local = std::find(config_.local_layers.begin(), config_.local_layers.end(), true) != config_.local_layers.end();
  const Masks masks = {mask(past, tokens, 0), any_local ? mask(past, tokens, config_.window) : std::nullopt};
  size_t site = 0;
  torch::Tensor stream = pass(sites_[site++], embed(inputs, past), visitor);
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const Block& block = *blocks_[layer];
    if (visitor.finished()) return {};
    const torch::Tensor normed = normalize(stream, block.attention_norm, block.attention_norm_bias);
    const torch::Tensor attention = pass(sites_[site++], attend(block, normed, layer, masks, cache), visitor);
    if (visitor.finished()) return {};
    const torch::Tensor before = stream;
    stream = stream + attention;
    const torch::Tensor& read = config_.residual == Residual::kSequential ? stream : before;
    const bool own_norm = config_.residual != Residual::kParallelOneNorm;
    const torch::Tensor input =
        pass(sites_[site++], own_norm ? normalize(read, block.mlp_norm, block.mlp_norm_bias) : normed, visitor);
    if (visitor.finished()) return {};
    const torch::Tensor hidden = pass(sites_[site++], activate(block, input), visitor);
    if (visitor.finished()) return {};
    torch::Tensor mlp = torch::linear(hidden, block.down, block.down_bias);
    if (config_.post_norms) mlp = normalize(mlp, block.mlp_post_norm, block.mlp_post_norm_bias);
    mlp = pass(sites_[site++], mlp, visitor);
    if (visitor.finished()) return {};
    stream = pass(sites_[site++], stream + mlp, visitor);
  }
  if (visitor.finished()) return {};
  torch::Tensor last = pass(sites_[site], final_norm(stream), visitor);
  if (visitor.finished()) return {};
  if (cache) {
    cache->tokens += tokens;
    last = last.narrow(1, tokens - 1, 1);
  }
  const torch::Tensor logits = torch::linear(last, head(), head_bias_);
  return config_.final_softcap == 0 ? logits : torch::tanh(logits / config_.final_softcap) * config_.final_softcap;
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
