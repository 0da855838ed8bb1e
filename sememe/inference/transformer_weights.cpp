#include "sememe/inference/transformer_weights.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/kernels/quantized_rows.h"

namespace sememe {
namespace {

void refuse_what_is_not_here(const TransformerConfig& config, const std::filesystem::path& path) {
  constexpr int64_t kBlock = kernels::QuantizedRows::kBlock;
  if (config.width % kBlock != 0 || config.feed_forward_width % kBlock != 0 || config.heads * config.head_width % kBlock != 0)
    fail("{}: widths that are no multiples of {} are not supported by the quantised engine", path.string(), kBlock);
}

}  // namespace

TransformerWeights::TransformerWeights(const std::filesystem::path& path) : source_(path) {
  const TransformerConfig& config = source_.config();
  refuse_what_is_not_here(config, path);
  const std::string head_name = config.tied_head ? "embedding" : "head";
  std::vector<std::string> matrices;
  for (int64_t i = 0; i < config.layers; ++i)
    for (const char* name : {"query", "key", "value", "output", "gate", "up", "down"})
      if (const std::string matrix = fmt::format("block{}.{}", i, name); source_.has(matrix)) matrices.push_back(matrix);
  matrices.push_back(head_name);
  try {
    std::vector<std::byte> room;
    for (const std::string& name : matrices) bytes_ += PanelMemory::rounded(PanelMatrix::bytes(source_.matrix(name, room)));
    memory_ = std::make_unique<PanelMemory>(bytes_);
    for (int64_t i = 0; i < config.layers; ++i) {
      const std::string name = fmt::format("block{}.", i);
      BlockWeights block;
      block.local = is_local(config, i);
      for (const auto& [norm, at] : {std::pair{"attention_norm", &block.attention_norm}, {"attention_post_norm", &block.attention_post_norm},
                                     {"mlp_norm", &block.mlp_norm}, {"mlp_post_norm", &block.mlp_post_norm}})
        *at = {source_.vector(name + norm), source_.vector(name + norm + "_bias")};
      for (const auto& [vector, at] : {std::pair{"query_norm", &block.query_norm}, {"key_norm", &block.key_norm},
                                       {"query_bias", &block.query_bias}, {"key_bias", &block.key_bias}, {"value_bias", &block.value_bias},
                                       {"output_bias", &block.output_bias}, {"gate_bias", &block.gate_bias}, {"up_bias", &block.up_bias},
                                       {"down_bias", &block.down_bias}})
        *at = source_.vector(name + vector);
      for (const auto& [matrix, at] : {std::pair{"query", &block.query}, {"key", &block.key}, {"value", &block.value}, {"output", &block.output},
                                       {"gate", &block.gate}, {"up", &block.up}, {"down", &block.down}})
        if (source_.has(name + matrix)) at->emplace(source_.matrix(name + matrix, room), *memory_);
      blocks.push_back(std::move(block));
    }
    head.emplace(source_.matrix(head_name, room), *memory_);
  } catch (const Error& error) {
    const std::string what = error.what();
    fail("{}{}", what.starts_with(path.string()) ? "" : path.string() + ": ", what);
  }
  embedding_ = source_.matrix("embedding", embedding_room_);
  norm = {source_.vector("norm"), source_.vector("norm_bias")};
  head_bias = source_.vector("head_bias");
  if (config.positions == Positions::kLearned) {
    positions_ = dequantize(source_.tensor("positions"));
    for (const float value : positions_)
      if (!std::isfinite(value)) fail("{}: tensor \"{}\" holds a NaN or infinite value", path.string(), source_.tensor("positions").name);
  } else {
    for (const bool local : {false, true}) {
      rotations[local].frequencies = rotary_frequencies(config, local);
      rotations[local].magnitude = rotary_magnitude(config, local);
    }
  }
}

void TransformerWeights::embed(int32_t id, int64_t position, float* row) const {
  const BlockLayout& layout = block_layout(embedding_.type);
  const int64_t width = config().width, row_bytes = width / layout.weights * layout.bytes;
  dequantize(embedding_.type, embedding_.data.subspan(id * row_bytes, row_bytes), {row, static_cast<size_t>(width)});
  if (config().embedding_scale != 1.0)
    for (int64_t i = 0; i < width; ++i) row[i] *= static_cast<float>(config().embedding_scale);
  if (!positions_.empty()) {
    const float* const learned = positions_.data() + (position + config().position_offset) * width;
    for (int64_t i = 0; i < width; ++i) row[i] += learned[i];
  }
}

std::vector<float> TransformerWeights::head_weights() const {
  std::vector<std::byte> room;
  return dequantize(source_.matrix(config().tied_head ? "embedding" : "head", room));
}

void TransformerWeights::extend_rotations(int64_t tokens) {
  if (tokens <= rotated_tokens_) return;
  constexpr int64_t kStep = 256;
  const int64_t wanted = std::min(config().context, (tokens + kStep - 1) / kStep * kStep);
  for (Rotation& rotation : rotations) {
    for (int64_t t = rotated_tokens_; t < wanted; ++t) {
      for (const double frequency : rotation.frequencies) {
        rotation.cosines.push_back(static_cast<float>(rotation.magnitude * std::cos(static_cast<double>(t) * frequency)));
        rotation.sines.push_back(static_cast<float>(rotation.magnitude * std::sin(static_cast<double>(t) * frequency)));
      }
    }
  }
  rotated_tokens_ = wanted;
}

}  // namespace sememe
