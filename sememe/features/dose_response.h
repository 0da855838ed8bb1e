#pragma once
// Dose and response: what more and more of a latent's direction does to a model's predictions and to what it writes, and how several
// latents compare where as much is injected of each, and where each moves the predictions as far.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/steering.h"
#include "sememe/language/language_model.h"

namespace sememe {

struct DosedLatent {
  int64_t latent = 0;
  std::optional<SteeringUnit> unit;    ///< the mean norm of the text's rows at the site unless given
  std::vector<std::string> key_words;  ///< of its description, lower case; empty: the share of key words is not measured
};

struct DoseOptions {
  std::string site;
  std::vector<DosedLatent> latents;
  std::vector<double> strengths = {-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8};  ///< in units
  std::filesystem::path text;  ///< predictions are measured on its beginning; empty: on the prompt
  std::string prompt;          ///< continued; empty: the beginnings of some contexts of the text are
  int64_t tokens = 1024;       ///< of the text
  double norm = 0.0;           ///< injected of every latent to compare them; 0 takes half the mean norm of the rows at the site
  double kl = 0.1;             ///< nats, to which every latent is injected to compare them
  GenerateOptions generate{.tokens = 24};
  torch::Device device = torch::kCPU;
};

/// {"site", "tokens", "seed", "prompts": [...], "latents": [{"latent", "unit", "unit_meaning", "key_words", "promoted": [texts],
///   "doses": [{"strength", "norm", "kl", "ce_change", "promoted_mass", "promoted_mass_change", "key_word_share", "text"}]}],
///  "equal_norm": {"norm", "kl": nats, "rows": [{"name", "latent", "norm", "kl", "ce_change", "promoted_mass_change"}]}, "equal_kl": the same}
/// kl is KL(clean || injected) of the next token in nats, mean over the text; ce_change the change of the cross-entropy on it;
/// promoted_mass the probability, mean over the text, of the 8 tokens that the latent's direction promotes most through the output matrix
/// (logit lens; null at a site that the head does not read); key_word_share the share of the generated tokens that belong to a key word;
/// text the first continuation. In the comparisons "together" is the sum of all unit directions, brought to the norm, and "random" the median
/// over 8 random directions: what any direction does. A norm is null where no norm reaches the kl.
/// @throws UsageError for a site or latent that does not exist, neither text nor prompt, or numbers that cannot be; Error if widths differ,
///         the text has no tokens, or a prediction is not finite; Interrupted
Json dose_response(const Dictionary& dictionary, const LanguageModel& model, const DoseOptions& options);

}  // namespace sememe
