#include "sememe/families/transformer_config.h"

#include <cmath>
#include <utility>

#include "sememe/base/error.h"

namespace sememe {
namespace {

void check_positions(const TransformerConfig& config) {
  if (config.position_offset < 0 || config.position_offset > config.context)
    fail("the transformer's position_offset is {}; it must be from 0 to the context", config.position_offset);
  if (config.positions != Positions::kRotary) return;
  const int64_t rotated = rotated_width(config);
  if (rotated < 1 || rotated > config.head_width)
    fail("the transformer's rotary_width is {}; it must be from 1 to its head_width, {}", rotated, config.head_width);
  if (rotated % 2 != 0) {
    const char* const name = config.rotary_width == 0 ? "head_width" : "rotary_width";
    fail("the transformer's {} is {}; rotary positions need an even one", name, rotated);
  }
  if (config.context * config.head_width > (int64_t{1} << 28))
    fail("the transformer's context ({}) times its head_width ({}) is too large", config.context, config.head_width);
  check_rotary_scaling(config.rotary_scaling, rotated / 2);
}

void check_attention(const TransformerConfig& config) {
  if (!config.local_layers.empty()) {
    if (static_cast<int64_t>(config.local_layers.size()) != config.layers)
      fail("the transformer's local_layers names {} layers of {}", config.local_layers.size(), config.layers);
    if (config.window < 1) fail("the transformer's window is {}; local layers need one of at least 1", config.window);
  }
  const auto factor = [](double value, const char* name) {
    if (!(value >= 0) || !std::isfinite(value)) fail("the transformer's {} is {}; it cannot be negative", name, value);
  };
  factor(config.attention_scale, "attention_scale");
  factor(config.attention_softcap, "attention_softcap");
  factor(config.final_softcap, "final_softcap");
  factor(config.embedding_scale, "embedding_scale");
}

/// Whether the layer's positions are turned by a base of its own, which is never scaled.
bool has_own_base(const TransformerConfig& config, bool local) { return local && config.local_rotary_base != 0; }

}  // namespace

void check_config(const TransformerConfig& config) {
  const auto positive = [](int64_t value, const char* name) {
    if (value < 1) fail("the transformer's {} is {}; it must be at least 1", name, value);
    if (value > (int64_t{1} << 31)) fail("the transformer's {} is {}, which is too large", name, value);
  };
  positive(config.vocabulary, "vocabulary");
  positive(config.context, "context");
  positive(config.width, "width");
  positive(config.layers, "layers");
  positive(config.heads, "heads");
  positive(config.key_value_heads, "key_value_heads");
  positive(config.head_width, "head_width");
  positive(config.feed_forward_width, "feed_forward_width");
  if (config.layers > 10000) fail("the transformer's layers is {}, which is too large", config.layers);
  if (config.heads % config.key_value_heads != 0)
    fail("the transformer's heads ({}) are not a multiple of its key_value_heads ({})", config.heads, config.key_value_heads);
  check_positions(config);
  check_attention(config);
  if (!(config.norm_epsilon > 0) || !std::isfinite(config.norm_epsilon))
    fail("the transformer's norm_epsilon is {}; it must be positive", config.norm_epsilon);
  if (!(config.rotary_base > 1) || !std::isfinite(config.rotary_base))
    fail("the transformer's rotary_base is {}; it must be above 1", config.rotary_base);
  if (config.local_rotary_base != 0 && (!(config.local_rotary_base > 1) || !std::isfinite(config.local_rotary_base)))
    fail("the transformer's local_rotary_base is {}; it must be above 1", config.local_rotary_base);
}

bool is_gated(const TransformerConfig& config) {
  const FeedForward kind = config.feed_forward;
  return kind == FeedForward::kGatedSilu || kind == FeedForward::kGatedGelu || kind == FeedForward::kGatedRelu;
}

bool is_local(const TransformerConfig& config, int64_t layer) { return !config.local_layers.empty() && config.local_layers.at(layer); }

int64_t rotated_width(const TransformerConfig& config) { return config.rotary_width == 0 ? config.head_width : config.rotary_width; }

double attention_scale(const TransformerConfig& config) {
  return config.attention_scale == 0 ? 1.0 / std::sqrt(static_cast<double>(config.head_width)) : config.attention_scale;
}

std::vector<double> rotary_frequencies(const TransformerConfig& config, bool local) {
  const double base = has_own_base(config, local) ? config.local_rotary_base : config.rotary_base;
  const int64_t half = rotated_width(config) / 2;
  std::vector<double> frequencies(half);
  for (int64_t i = 0; i < half; ++i) frequencies[i] = std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
  if (!has_own_base(config, local)) slow_frequencies(config.rotary_scaling, base, frequencies);
  return frequencies;
}

double rotary_magnitude(const TransformerConfig& config, bool local) {
  return has_own_base(config, local) ? 1.0 : config.rotary_scaling.magnitude;
}

std::vector<ParameterShape> parameter_shapes(const TransformerConfig& config) {
  std::vector<ParameterShape> shapes;
  const int64_t width = config.width, hidden = config.feed_forward_width;
  const int64_t queries = config.heads * config.head_width, keys = config.key_value_heads * config.head_width;
  const auto norm = [&](const std::string& name) {
    shapes.push_back({name, {width}});
    if (config.norm == Norm::kLayer) shapes.push_back({name + "_bias", {width}});
  };
  const auto matrix = [&](const std::string& name, int64_t from, int64_t to, bool bias) {
    shapes.push_back({name, {to, from}});
    if (bias) shapes.push_back({name + "_bias", {to}});
  };
  matrix("embedding", width, config.vocabulary, false);
  if (config.positions == Positions::kLearned) matrix("positions", width, config.context + config.position_offset, false);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string block = fmt::format("block{}.", i);
    norm(block + "attention_norm");
    if (config.residual != Residual::kParallelOneNorm) norm(block + "mlp_norm");
    if (config.post_norms) {
      norm(block + "attention_post_norm");
      norm(block + "mlp_post_norm");
    }
    if (config.query_key_norm) {
      shapes.push_back({block + "query_norm", {config.head_width}});
      shapes.push_back({block + "key_norm", {config.head_width}});
    }
    matrix(block + "query", width, queries, config.bias || config.qkv_bias);
    matrix(block + "key", width, keys, config.bias || config.qkv_bias);
    matrix(block + "value", width, keys, config.bias || config.qkv_bias);
    matrix(block + "output", queries, width, config.bias);
    if (is_gated(config)) matrix(block + "gate", width, hidden, config.bias);
    matrix(block + "up", width, hidden, config.bias);
    matrix(block + "down", hidden, width, config.bias);
  }
  norm("norm");
  if (!config.tied_head) matrix("head", width, config.vocabulary, false);
  if (config.head_bias) shapes.push_back({"head_bias", {config.vocabulary}});
  return shapes;
}

}  // namespace sememe
