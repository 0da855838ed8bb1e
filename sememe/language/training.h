#pragma once
// From a recipe to a bundle: corpus, tokenizer, token ids, training, evaluation on held-out text.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "sememe/base/json.h"
#include "sememe/language/transformer.h"

namespace sememe {

/// A recipe file, every member optional but the corpus:
///   {"corpus": "corpus.json"                      a corpus recipe beside this file, or {"train": FILE, "heldout": FILE}
///    "tokenizer": {"vocabulary": 4096},
///    "network": {"layers": 4, "width": 256, ...}  members of TransformerConfig; "family": "llama" or "gpt2"; of Llama's MLP,
///                                                 "activation": "silu" or "relu"
///    "training": {"tokens", "batch_tokens", "matrix_learning_rate", "learning_rate", "weight_decay", "clip", "warmup_fraction",
///                 "decay_fraction"},
///    "seed": 1}
struct Recipe {
  std::filesystem::path corpus, train, heldout;  ///< either the first or the other two
  TransformerConfig network;
  int64_t tokens = 20'000'000;   ///< trained on in all
  int64_t batch_tokens = 4096;   ///< in one step
  double matrix_learning_rate = 0.004;
  double learning_rate = 0.006;
  double weight_decay = 0.0;
  double clip = 1.0;
  double warmup_fraction = 0.01;
  double decay_fraction = 0.6;
  uint64_t seed = 1;

  /// @throws Error naming the file and the member that is missing, unknown or malformed
  static Recipe load(const std::filesystem::path& path);
  Json to_json() const;
};

/// Trains as the recipe says and puts the bundle (float16 weights), recipe.json and training.json (loss curve, held-out bits per
/// byte) into `out`, whole or not at all. What is made on the way lies in the folder `out`.work until then; with `resume` it is used again.
/// The first weights and the batches are the same on every device; sums are in another order there, so the last digits differ.
/// @returns what training.json holds
/// @throws Error if `out` exists and is no model's folder; Interrupted on SIGINT with everything saved
Json train_language_model(const Recipe& recipe, const std::filesystem::path& out, bool resume, torch::Device device = torch::kCPU);

}  // namespace sememe
