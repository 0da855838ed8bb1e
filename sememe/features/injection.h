#pragma once
// How much a latent moves the model's prediction: its atom is added to the site at a fixed norm, in contexts that were not chosen for
// it, and the shift of the next-token distribution is measured.

#include <torch/torch.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "sememe/features/dictionary.h"
#include "sememe/language/language_model.h"

namespace sememe {

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
