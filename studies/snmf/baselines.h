#pragma once
// What features are held against: random directions as sparse as they are, differences of means, and the latents of a TopK dictionary.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "sememe/features/dictionary.h"
#include "sememe/features/labelled_tokens.h"
#include "sememe/language/language_model.h"

namespace sememe::snmf {

/// Directions [count, width] of so many units, N(0,1) each.
torch::Tensor random_sparse_directions(int64_t count, int64_t width, int64_t units, uint64_t seed);

/// The mean of the label's tokens minus that of all others [width].
torch::Tensor difference_of_means(const LabelledTokens& tokens, int64_t label);

struct TopKPlan {
  int64_t captured, trained;  ///< tokens
};

/// 2,048 latents, k = 16. The activations are kept in the folder for other seeds, the dictionary for another run.
std::shared_ptr<Dictionary> train_top_k(const LanguageModel& model, const std::string& site, const std::filesystem::path& text,
                                        const std::filesystem::path& folder, const TopKPlan& plan, uint64_t seed);

/// Codes of the tokens, zeros included [tokens, latents].
torch::Tensor dense_codes(const Dictionary& dictionary, const LabelledTokens& tokens);

}  // namespace sememe::snmf
