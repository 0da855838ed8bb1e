#pragma once
// An encoder with its tokenizer and how it makes one vector of a text, in Hugging Face's folder, with the files that sentence-transformers
// puts beside it.

#include <torch/torch.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "sememe/language/encoder.h"
#include "sememe/text/tokenizer.h"

namespace sememe {

/// How the tokens' vectors become one.
struct Pooling {
  bool mean = true;        ///< over all tokens, those around the text too; otherwise the first token's
  bool normalized = true;  ///< to length 1
  std::string description() const;
};

struct Embeddings {
  torch::Tensor rows;     ///< [texts, width] float32
  int64_t shortened = 0;  ///< texts of which only the first tokens were read
};

struct SentenceEncoder {
  std::shared_ptr<Encoder> network;
  Tokenizer tokenizer;
  std::filesystem::path folder;
  Pooling pooling;
  int64_t context = 0;  ///< tokens of a text at most, with those around it; 0: the network's own

  int64_t text_context() const { return context > 0 ? std::min(context, network->config().context) : network->config().context; }

  /// Reads config.json, the weights and tokenizer.json or vocab.txt; then modules.json, the pooling's config.json and what else
  /// sentence-transformers writes, where it is there. Without them, the mean over all tokens, of length 1, is taken.
  /// @throws Error naming the file and the key or tensor that is missing, malformed or not supported
  static SentenceEncoder load(const std::filesystem::path& folder);

  /// A row for each text, in their order. Texts are run in groups of similar length, at most `batch_tokens` tokens at once or one text.
  Embeddings embed(std::span<const std::string> texts, int64_t batch_tokens = 8192) const;
};

}  // namespace sememe
