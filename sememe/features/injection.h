#pragma once
// How much a latent moves the model's prediction: its atom is added to the site at a fixed norm, in contexts that were not chosen for
// it, and the shift of the next-token distribution is measured.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sememe/features/dictionary.h"
#include "sememe/language/language_model.h"
#include "sememe/language/token_contexts.h"

namespace sememe {

/// A fixed text on which it is measured how what is added at a site moves the predictions.
class InjectionProbe {
 public:
  /// @param batch contexts as TokenContexts cuts them, with at least one valid token
  /// @throws UsageError for a site that does not exist
  InjectionProbe(const LanguageModel& model, std::string site, const TokenBatch& batch, torch::Device device = torch::kCPU);

  double mean_norm() const { return mean_norm_; }  ///< of the rows at the site
  int64_t tokens() const { return clean_.size(0); }
  /// Log-probabilities after each token of the text [tokens, vocabulary], as they are.
  const torch::Tensor& clean() const { return clean_; }
  /// The same with `row` [width] added to every token's row.
  torch::Tensor injected(const torch::Tensor& row) const;
  /// KL(clean || predicted) in nats, mean over tokens.
  double kl(const torch::Tensor& predicted) const;
  /// Mean over the tokens that another one follows, in nats; NaN if there are none.
  double cross_entropy(const torch::Tensor& predicted) const;

 private:
  const LanguageModel& model_;
  std::string site_;
  Batch batch_;
  torch::Tensor valid_, targets_, clean_;
  double mean_norm_ = 0.0;
};

/// The norm at which a direction moves the predictions by `kl` (to 0.1% of it): doubled from an eighth of the mean norm until it moves them
/// as far, then bisected between the last two, where the kl's growth says it must lie.
/// @param direction [width], of norm 1
/// @param kl        > 0
/// @return nothing if even 1024 times the mean norm does not move them as far
std::optional<double> norm_at_kl(const InjectionProbe& probe, const torch::Tensor& direction, double kl);

struct InjectionOptions {
  std::string site;
  double norm = 0.0;        ///< of what is added to each row; 0 takes half the mean norm of the rows there
  int64_t latents = 128;    ///< drawn at random among `candidates`
  int64_t tokens = 1024;    ///< of the text, the same for every latent
  uint64_t seed = 1;
  torch::Device device = torch::kCPU;
};

struct InjectionEffect {
  double norm = 0.0;            ///< used
  std::vector<int64_t> latents;  ///< drawn, ascending
  std::vector<double> kl;        ///< KL(clean || injected) in nats for each, mean over tokens
  double median() const;
};

/// @param candidates latents to draw from, e.g. those that fire at all
/// @throws UsageError for a site that does not exist, Error if there are no candidates or the text has no tokens
InjectionEffect injection_effect(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                                 const std::vector<int64_t>& candidates, const InjectionOptions& options);

}  // namespace sememe
