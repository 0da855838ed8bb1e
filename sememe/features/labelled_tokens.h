#pragma once
// Tokens of sentences that have a label, with what passes a site at each; what the tokens at which a feature is strongest have in common,
// and whether its direction tells sentences of a label from others.

#include <torch/torch.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sememe/language/language_model.h"

namespace sememe {

/// Tokens of sentences, one sentence after another. The end-of-text before each sentence is left out.
struct LabelledTokens {
  torch::Tensor activations;       ///< [tokens, width] float32 at the site
  std::vector<int32_t> ids;        ///< [tokens]
  std::vector<int64_t> sentences;  ///< [tokens] number of the sentence
  std::vector<int64_t> labels;     ///< [tokens] label of that sentence
  std::vector<int64_t> offsets;    ///< [sentences + 1] sentence i holds tokens [offsets[i], offsets[i + 1])

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }};

/// Runs the model over each sentence by itself, up to the site. What does not fit the context is cut off.
/// @param labels one for each sentence
/// @throws UsageError for a site that does not exist, Error for a sentence without tokens, Interrupted
LabelledTokens label_tokens(const LanguageModel& model, std::span<const std::string> sentences, std::span<const int64_t> labels,
                            const std::string& site);

/// The share of each label among the `count` tokens at which `values` is largest and positive (Shafran et al. 2025 read a feature by its 25
/// leading tokens). Ties go to the earlier token.
/// @param values [tokens] a feature's coefficients
/// @return [num_labels], all zero where fewer than `count` values are positive
std::vector<double> leading_label_shares(const torch::Tensor& values, std::span<const int64_t> labels, int64_t num_labels,
                                         int64_t count = 25);

/// What the largest of those shares is, on average, for `count` tokens drawn at random without replacement: above 1 / num_labels, since the
/// label that happens to be frequent is the one counted.
double chance_purity(std::span<const int64_t> labels, int64_t num_labels, uint64_t seed, int64_t count = 25, int64_t draws = 1000);

/// Cosines of rows [n, width] with directions [m, width]: [n, m]; 0 where either is zero.
torch::Tensor cosines_with(const torch::Tensor& rows, const torch::Tensor& directions);

/// How strongly each sentence holds each direction [m, width]: the largest cosine with its tokens' rows. @return [sentences, m]
torch::Tensor sentence_scores(const LabelledTokens& tokens, const torch::Tensor& directions);

/// Concept detection S_CD = log(mean score of activating sentences / mean score of neutral ones) (Shafran et al. 2025); means below 1e-6
/// count as that.
double detection_score(std::span<const double> activating, std::span<const double> neutral);

}  // namespace sememe
