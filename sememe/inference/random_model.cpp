#include "sememe/inference/random_model.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/formats/gguf_writer.h"

namespace sememe {
namespace {

constexpr ModelShape kShapes[] = {{"llama-3.2-1b", 16, 2048, 8192, 32, 8, 64, 128256, 8192},
                                  {"llama-3.2-1b-mlp", 16, 2048, 8192, 1, 1, 32, 32, 8192}};

/// Blocks of weights of about 0.02 in size.
std::vector<std::byte> random_blocks(GgmlType type, int64_t weights, uint64_t seed) {
  const BlockLayout& layout = block_layout(type);
  std::vector<std::byte> bytes((weights / layout.weights * layout.bytes + 7) / 8 * 8);
  RandomStream stream(seed, "random-model");
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t drawn = stream.next();
    std::memcpy(bytes.data() + i, &drawn, 8);
  }
  if (type == GgmlType::kF16) {
    for (size_t i = 1; i < bytes.size(); i += 2) bytes[i] = (bytes[i] & std::byte{0x80}) | std::byte{0x24};  // from 2^-6 to 2^-5.7
  } else if (type == GgmlType::kQ4_0 || type == GgmlType::kQ8_0) {
    const uint16_t scale = type == GgmlType::kQ4_0 ? 0x1c00 : 0x0c00;  // 2^-8 and 2^-12
    for (size_t i = 0; i + layout.bytes <= bytes.size(); i += layout.bytes) std::memcpy(bytes.data() + i, &scale, 2);
  } else {
    fail_usage("random weights are F16, Q4_0 or Q8_0");
  }
  return bytes;
}

}  // namespace

const ModelShape& find_shape(std::string_view name) {
  std::vector<std::string_view> names;
  for (const ModelShape& shape : kShapes) {
    if (shape.name == name) return shape;
    names.push_back(shape.name);
  }
  fail_usage("there is no shape \"{}\"; there are {}", name, fmt::join(names, " and "));
}

void write_random_model(const std::filesystem::path& path, const ModelShape& shape, GgmlType type, uint64_t seed) {
  const auto key = [](const char* name) { return std::string("llama.") + name; };
  std::vector<std::string> tokens(shape.vocabulary);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = std::to_string(i);
  const std::vector<GgufEntry> metadata = {{"general.architecture", std::string("llama")},
                                           {key("context_length"), shape.context},
                                           {key("embedding_length"), shape.width},
                                           {key("block_count"), shape.layers},
                                           {key("attention.head_count"), shape.heads},
                                           {key("attention.head_count_kv"), shape.key_value_heads},
                                           {key("attention.key_length"), shape.head_width},
                                           {key("attention.value_length"), shape.head_width},
                                           {key("rope.dimension_count"), shape.head_width},
                                           {key("feed_forward_length"), shape.feed_forward},
                                           {key("vocab_size"), shape.vocabulary},
                                           {key("rope.freq_base"), 500000.0f},
                                           {key("attention.layer_norm_rms_epsilon"), 1e-5f},
                                           {"tokenizer.ggml.model", std::string("no_vocab")},
                                           {"tokenizer.ggml.tokens", tokens}};
  const int64_t width = shape.width, inner = shape.feed_forward, queries = int64_t{shape.heads} * shape.head_width,
                keys = int64_t{shape.key_value_heads} * shape.head_width;
  // All matrices are the beginning of the same blocks: what they hold makes no difference to the time.
  const std::vector<std::byte> blocks = random_blocks(type, std::max(int64_t{shape.vocabulary}, inner) * width, seed);
  const std::vector<float> ones(width, 1.0f);
  const BlockLayout& layout = block_layout(type);
  std::vector<GgufTensor> tensors;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns) {
    tensors.push_back({name, type, {rows, columns}, std::span(blocks).first(rows * columns / layout.weights * layout.bytes)});
  };
  const auto norm = [&](const std::string& name) { tensors.push_back({name, GgmlType::kF32, {width}, std::as_bytes(std::span(ones))}); };
  matrix("token_embd.weight", shape.vocabulary, width);
  norm("output_norm.weight");
  for (uint32_t i = 0; i < shape.layers; ++i) {
    const std::string block = fmt::format("blk.{}.", i);
    norm(block + "attn_norm.weight"), norm(block + "ffn_norm.weight");
    matrix(block + "attn_q.weight", queries, width), matrix(block + "attn_k.weight", keys, width), matrix(block + "attn_v.weight", keys, width);
    matrix(block + "attn_output.weight", width, queries);
    matrix(block + "ffn_gate.weight", inner, width), matrix(block + "ffn_up.weight", inner, width), matrix(block + "ffn_down.weight", width, inner);
  }
  write_gguf(path, metadata, tensors);
}

}  // namespace sememe
