#pragma once
// Activations of a language model or an encoder at a site, over a text, and on request the gradients of a language model's loss with respect
// to them.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "sememe/features/activation_store.h"
#include "sememe/language/language_model.h"
#include "sememe/language/sentence_encoder.h"
#include "sememe/language/token_contexts.h"

namespace sememe {

/// Which loss gradients are taken of (arXiv 2411.10397; sum and the true next token are its choices).
struct GradientLoss {
  bool mean = false;        ///< over the predicted tokens of a context, instead of their sum
  bool own_choice = false;  ///< against the model's most likely token instead of the true one: no label enters
};

/// A batch seen at a site, rows of the whole batch [batch, length, width]; `gradients` undefined where none were asked for.
struct SiteActivations {
  torch::Tensor activations, gradients, logits;
};

/// Runs the model with gradients at `site`, through the layers above it only.
SiteActivations differentiate_at(Network& network, const std::string& site, const TokenBatch& batch, const GradientLoss& loss);

/// Contexts of a text on the device of the model; texts are cut as TokenContexts does.
TokenContexts open_contexts(const LanguageModel& model, const std::filesystem::path& text, int64_t batch_tokens);

struct CaptureOptions {
  std::string site;             ///< or several, joined with '+': rows are then side by side
  int64_t tokens = 1'000'000;
  int64_t batch_tokens = 8192;  ///< tokens a forward pass
  bool gradients = false;
  GradientLoss gradient_loss{};
  bool half = true;  ///< float16 on disk
  Json interventions = Json::array();  ///< that act on the model meanwhile, as they are noted in the store
  torch::Device device = torch::kCPU;
};

/// Stores one row for each token of the text (not for the leading end-of-text) until there are options.tokens of them or the text
/// ends. An interrupted capture goes on where it stopped when run again, to the same store.
/// @return the number of rows
/// @throws UsageError for a site that does not exist, Error for a bad text or a folder that holds something else, Interrupted
int64_t capture(const LanguageModel& model, const std::filesystem::path& text, const CaptureOptions& options,
                const std::filesystem::path& folder);
/// The same of an encoder: not for the tokens around a text. @throws also UsageError if gradients are wanted, for which it has no loss
int64_t capture(const SentenceEncoder& encoder, const std::filesystem::path& text, const CaptureOptions& options,
                const std::filesystem::path& folder);

}  // namespace sememe
