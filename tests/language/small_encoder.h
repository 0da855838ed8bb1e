#pragma once
// A small random BERT in a folder, as Hugging Face's libraries and sentence-transformers write it.

#include <filesystem>
#include <string>

#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/network/tensors.h"

namespace sememe::testing {

inline Json small_bert() {
  return {{"model_type", "bert"},    {"vocab_size", 30},           {"max_position_embeddings", 12}, {"hidden_size", 8},
          {"num_hidden_layers", 2},  {"num_attention_heads", 2},   {"intermediate_size", 10},       {"hidden_act", "gelu"},
          {"type_vocab_size", 2},    {"layer_norm_eps", 1e-5}};
}

/// Values of about 0.5 that differ from tensor to tensor; of norms around 1.
inline NamedTensors small_bert_tensors() {
  NamedTensors tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    const auto number = static_cast<double>(tensors.size());
    const torch::Tensor values = (torch::arange(count, torch::kFloat32) * (1.7 + 0.1 * number) + number).sin() * 0.7;
    tensors.emplace_back(name, (name.ends_with("LayerNorm.weight") ? 1 + values * 0.3 : values).view(shape));
  };
  const auto both = [&](const std::string& name, int64_t to, int64_t from) {
    add(name + ".weight", from == 0 ? std::vector<int64_t>{to} : std::vector<int64_t>{to, from});
    add(name + ".bias", {to});
  };
  add("embeddings.word_embeddings.weight", {30, 8});
  add("embeddings.position_embeddings.weight", {12, 8});
  add("embeddings.token_type_embeddings.weight", {2, 8});
  both("embeddings.LayerNorm", 8, 0);
  for (const std::string layer : {"encoder.layer.0.", "encoder.layer.1."}) {
    for (const char* const part : {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"})
      both(layer + part, 8, 8);
    both(layer + "attention.output.LayerNorm", 8, 0);
    both(layer + "intermediate.dense", 10, 8);
    both(layer + "output.dense", 8, 10);
    both(layer + "output.LayerNorm", 8, 0);
  }
  return tensors;
}

/// The letters a to p, at the beginning of a word and in it.
inline std::string small_vocabulary() {
  std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char letter = 'a'; letter <= 'p'; ++letter) text += std::string(1, letter) + "\n";
  for (char letter = 'a'; letter <= 'i'; ++letter) text += std::string("##") + letter + "\n";
  return text;
}

inline void write_small_bert(const std::filesystem::path& folder, const Json& config = small_bert(),
                             const NamedTensors& tensors = small_bert_tensors()) {
  std::filesystem::create_directories(folder);
  write_json(folder / "config.json", config);
  save_tensors(folder / "model.safetensors", tensors);
  write_file(folder / "vocab.txt", small_vocabulary());
}

}  // namespace sememe::testing
