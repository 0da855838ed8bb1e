#pragma once
// Steering: what a language model writes and predicts when an intervention acts on every token, beside what it does without.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/dictionary.h"
#include "sememe/features/intervention.h"
#include "sememe/language/language_model.h"

namespace sememe {

/// How strongly a strength of 1 adds a latent's unit direction.
struct SteeringUnit {
  double norm = 0.0;    ///< of what is added
  std::string meaning;  ///< in words
};

/// The norm of the latent's contribution where it fires strongly: the 99th percentile of its activations (`typical_maximum` of its
/// description) times its atom's norm. @throws Error if the latent never fired
SteeringUnit unit_of_description(const Dictionary& dictionary, int64_t latent, double typical_maximum);

/// The mean norm of the prompt's rows at the site (without the leading end-of-text): for dictionaries without a description.
SteeringUnit unit_of_prompt(const LanguageModel& model, const std::string& site, const std::string& prompt);

/// End-of-text and the prompt, as generate() starts: [1, tokens]. @throws Error if they do not fit the context
torch::Tensor prompt_ids(const LanguageModel& model, const std::string& prompt);

struct SteeringOptions {
  std::string site, prompt;
  int64_t latent = 0;
  std::vector<double> strengths;  ///< in units; negative ones take the latent away
  SteeringUnit unit;
  GenerateOptions generate;
};

/// The continuation before and after steering with the same seed, and what steering does to the prediction of the next token:
///   {"latent", "site", "prompt", "unit", "unit_meaning", "before",
///    "steered": [{"strength", "norm", "after", "kl", "kl_prompt", "raised": [{"text", "before", "after"}], "lowered": [...]}]}
/// kl is KL(before || after) in nats of the token after the prompt, kl_prompt its mean over the prompt's tokens; raised and lowered are the
/// tokens whose probability after the prompt changes most.
/// @throws UsageError for a site or latent that does not exist or an empty prompt; Error if widths differ or the prompt does not fit the context
Json steer(const Dictionary& dictionary, const LanguageModel& model, const SteeringOptions& options);

/// The same for any edits: {"intervention": its file, "edits": [in words], "site", "prompt", "seed", "before", "after", "kl", "kl_prompt",
/// "raised", "lowered"}.
/// @throws as steer
Json intervene(const Dictionary& dictionary, const LanguageModel& model, const Intervention& intervention, const std::string& prompt,
               const GenerateOptions& generate);

}  // namespace sememe
