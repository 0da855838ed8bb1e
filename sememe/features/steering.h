#pragma once
// Steering: a latent's direction is added to what passes its site, at every token, and the model goes on from there.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/dictionary.h"
#include "sememe/language/language_model.h"
#include "sememe/network/network.h"

namespace sememe {

/// Adds one row to every token that passes a site, in every forward pass it visits: to the prompt and to each generated token.
class SteerSite : public SiteVisitor {
 public:
  /// @param addition     [width]
  /// @param leading_rows tokens at the start of the first pass to leave as they are: the end-of-text that opens a context stands for no text
  SteerSite(std::string site, torch::Tensor addition, int64_t leading_rows = 1)
      : site_(std::move(site)), addition_(std::move(addition)), leading_rows_(leading_rows) {}

  torch::Tensor visit(const Site& site, torch::Tensor value) override;
  /// Rows added to so far.
  int64_t steered() const { return steered_; }

 private:
  std::string site_;
  torch::Tensor addition_;
  int64_t leading_rows_, steered_ = 0;
};

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

}  // namespace sememe
