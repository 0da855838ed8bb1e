#pragma once
// A trained language model in a folder: config.json, model.safetensors, tokenizer.json (a bundle).

#include <torch/torch.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "sememe/language/transformer.h"
#include "sememe/network/network.h"
#include "sememe/text/tokenizer.h"

namespace sememe {

struct LanguageModel {
  std::shared_ptr<Transformer> network;
  Tokenizer tokenizer;
  std::filesystem::path folder;

  /// Reads a bundle or a Hugging Face folder of the GPT-2 or Llama family.
  /// @throws Error naming the file and key that is missing, malformed or not supported
  static LanguageModel load(const std::filesystem::path& folder);
  /// Writes the folder, whole or not at all, in Hugging Face's names so that `transformers` loads it.
  void save(const std::filesystem::path& folder) const;
};

struct GenerateOptions {
  int64_t tokens = 64;       ///< at most this many new tokens
  double temperature = 0.8;  ///< 0 takes the most likely token
  int64_t top_k = 50;        ///< 0 keeps all
  uint64_t seed = 1;
};

/// Continues `prompt` with the KV cache; the visitor sees the prompt once and then each new token ([1, 1, width] at a site).
/// `on_text` gets each piece as it is decided. @returns the continuation
/// @throws Error if the prompt does not fit the context
std::string generate(const LanguageModel& model, const std::string& prompt, const GenerateOptions& options,
                     SiteVisitor& visitor, const std::function<void(std::string_view)>& on_text = {});

}  // namespace sememe
