#pragma once
// What a feature stands for: the concept of the tokens at which it is strongest.

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "sememe/features/labelled_tokens.h"

namespace sememe::snmf {

constexpr int64_t kLeading = 25;  // tokens by which a feature is read

/// The concept whose tokens lead a feature, and the share of the leading tokens that are of it.
struct Reading {
  int64_t label = -1;  ///< none where too few tokens are positive
  double purity = 0.0;
  std::vector<double> shares;
};

/// @param values [tokens, features]
std::vector<Reading> read_features(const torch::Tensor& values, const LabelledTokens& tokens);

std::vector<int64_t> labels_of(const std::vector<Reading>& readings);

/// Over the features that have a concept.
double mean_purity(const std::vector<Reading>& readings);

/// The feature of most leading tokens of the concept; the first of several.
int64_t best_for(const std::vector<Reading>& readings, int64_t label);

}  // namespace sememe::snmf
