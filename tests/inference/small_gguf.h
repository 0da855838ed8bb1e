#pragma once
// Small models in GGUF files, with random weights of any type.

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/base/random.h"
#include "sememe/text/byte_level.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/formats/scratch_path.h"

namespace sememe {

struct SmallGguf {
  GgmlType type = GgmlType::kF32;  ///< of the matrices
  uint32_t layers = 2, width = 256, heads = 4, key_value_heads = 2, feed_forward = 256, context = 64;
  bool tied_head = true;
  uint64_t seed = 1;
  std::vector<GgufEntry> more = {};  ///< metadata

  uint32_t vocabulary() const { return 257; }
};

/// Blocks of random codes whose scales make weights of about 0.06.
inline std::vector<std::byte> random_blocks(GgmlType type, int64_t weights, RandomStream& stream) {
  const BlockLayout& layout = block_layout(type);
  std::vector<std::byte> blocks(weights / layout.weights * layout.bytes);
  if (type == GgmlType::kF32) {
    for (int64_t i = 0; i < weights; ++i) {
      const auto value = static_cast<float>(0.06 * stream.normal());
      std::memcpy(blocks.data() + 4 * i, &value, 4);
    }
    return blocks;
  }
  for (std::byte& byte : blocks) byte = static_cast<std::byte>(stream.uniform() * 256);
  if (type == GgmlType::kF16 || type == GgmlType::kBF16) {  // at most 0.25, and 0.125
    for (size_t i = 1; i < blocks.size(); i += 2)
      blocks[i] = (blocks[i] & std::byte{0x80}) | static_cast<std::byte>(type == GgmlType::kF16 ? 0x33 : 0x3d);
    return blocks;
  }
  if (type == GgmlType::kQ8_K) {
    for (size_t block = 0; block < blocks.size(); block += layout.bytes) {
      const auto scale = static_cast<float>(0.0008 * (1 + stream.uniform()));
      std::memcpy(blocks.data() + block, &scale, 4);
    }
    return blocks;
  }
  // Where the scales are, and a float16 that suits the size of the codes.
  struct Scales {
    std::vector<int64_t> places;
    uint16_t scale;
  };
  const std::map<GgmlType, Scales> known = {
      {GgmlType::kQ4_0, {{0}, 0x2000}},       {GgmlType::kQ4_1, {{0, 2}, 0x1c00}},   {GgmlType::kQ5_0, {{0}, 0x1c00}},
      {GgmlType::kQ5_1, {{0, 2}, 0x1800}},    {GgmlType::kQ8_0, {{0}, 0x1000}},      {GgmlType::kQ2_K, {{80, 82}, 0x1800}},
      {GgmlType::kQ3_K, {{108}, 0x1400}},     {GgmlType::kQ4_K, {{0, 2}, 0x0800}},   {GgmlType::kQ5_K, {{0, 2}, 0x0400}},
      {GgmlType::kQ6_K, {{208}, 0x0200}}};
  const Scales& scales = known.at(type);
  for (size_t block = 0; block < blocks.size(); block += layout.bytes)
    for (const int64_t place : scales.places) {
      const uint16_t scale = scales.scale + static_cast<uint16_t>(stream.uniform() * 64);
      std::memcpy(blocks.data() + block + place, &scale, 2);
    }
  return blocks;
}

/// Texts of a small model's token ids, of three rhythms.
inline std::vector<std::vector<int32_t>> small_texts(int64_t count, int64_t tokens) {
  std::vector<std::vector<int32_t>> texts(count);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t t = 0; t < tokens; ++t) texts[i].push_back(static_cast<int32_t>((31 * i + (i % 3 + 2) * t) % 257));
  return texts;
}

/// A model of architecture llama with a byte-level tokenizer whose ids are the bytes and, last, <|endoftext|>.
class SmallGgufFile {
 public:
  explicit SmallGgufFile(const SmallGguf& model, const char* name = "model.gguf") : scratch_(name) {
    RandomStream stream(model.seed, "small gguf");
    std::vector<GgufEntry> metadata = {{"general.architecture", std::string("llama")},
                                       {"llama.context_length", model.context},
                                       {"llama.embedding_length", model.width},
                                       {"llama.block_count", model.layers},
                                       {"llama.attention.head_count", model.heads},
                                       {"llama.attention.head_count_kv", model.key_value_heads},
                                       {"llama.feed_forward_length", model.feed_forward},
                                       {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
                                       {"tokenizer.ggml.model", std::string("gpt2")},
                                       {"tokenizer.ggml.merges", std::vector<std::string>{}}};
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(to_byte_level(std::string(1, static_cast<char>(byte))));
    tokens.push_back("<|endoftext|>");
    std::vector<int32_t> types(256, 1);
    types.push_back(3);
    metadata.push_back({"tokenizer.ggml.tokens", tokens});
    metadata.push_back({"tokenizer.ggml.token_type", types});
    metadata.insert(metadata.end(), model.more.begin(), model.more.end());
    const auto add = [&](const std::string& tensor, std::vector<int64_t> shape, GgmlType type) {
      int64_t weights = 1;
      for (const int64_t size : shape) weights *= size;
      blocks_.push_back(random_blocks(type, weights, stream));
      if (shape.size() == 1) {  // norms about one
        auto* const values = reinterpret_cast<float*>(blocks_.back().data());
        for (int64_t i = 0; i < weights; ++i) values[i] += 1.0f;
      }
      tensors_.push_back({tensor, type, std::move(shape), {}});
    };
    const int64_t keys = model.width / model.heads * model.key_value_heads, width = model.width, inner = model.feed_forward;
    add("token_embd.weight", {model.vocabulary(), width}, model.type);
    add("output_norm.weight", {width}, GgmlType::kF32);
    if (!model.tied_head) add("output.weight", {model.vocabulary(), width}, model.type);
    for (uint32_t i = 0; i < model.layers; ++i) {
      const std::string block = fmt::format("blk.{}.", i);
      add(block + "attn_norm.weight", {width}, GgmlType::kF32);
      add(block + "attn_q.weight", {width, width}, model.type);
      add(block + "attn_k.weight", {keys, width}, model.type);
      add(block + "attn_v.weight", {keys, width}, model.type);
      add(block + "attn_output.weight", {width, width}, model.type);
      add(block + "ffn_norm.weight", {width}, GgmlType::kF32);
      add(block + "ffn_gate.weight", {inner, width}, model.type);
      add(block + "ffn_up.weight", {inner, width}, model.type);
      add(block + "ffn_down.weight", {width, inner}, model.type);
    }
    for (size_t i = 0; i < tensors_.size(); ++i) tensors_[i].data = blocks_[i];
    put_file(scratch_.path(), gguf_bytes(3, metadata, tensors_));
  }

  const std::filesystem::path& path() const { return scratch_.path(); }

 private:
  ScratchPath scratch_;
  std::vector<std::vector<std::byte>> blocks_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace sememe
