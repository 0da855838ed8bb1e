#pragma once
// Do directions tell sentences of their concept from others?

#include <torch/torch.h>

#include <cstdint>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/labelled_tokens.h"

namespace sememe::snmf {

struct Detection {
  std::vector<double> scores;      ///< S_CD with 5 activating and 5 neutral sentences
  std::vector<double> all_scores;  ///< the same with every held-out sentence

  /// Share of directions with S_CD > 0.
  double positive() const;
  Json json() const;
};

/// @param labels of the directions; those of -1 are left out
Detection detect(const torch::Tensor& directions, const std::vector<int64_t>& labels, const LabelledTokens& heldout, uint64_t seed);

}  // namespace sememe::snmf
