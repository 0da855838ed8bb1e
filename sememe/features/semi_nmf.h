#pragma once
// Semi-nonnegative matrix factorisation with winner-take-all features (Shafran, Geiger & Geva 2025, arXiv 2506.10920; without the
// winners it is Ding, Li & Jordan 2010): activations A [rows, width] ~ coefficients [rows, features] . features [features, width], the
// coefficients not negative, each feature made of a few of the site's units. A few thousand rows and minutes suffice.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

namespace sememe {

struct SemiNmfOptions {
  int64_t features = 100;
  double kept = 0.01;                ///< share of a feature's units that are kept, the largest by absolute value; 1 keeps all
  std::string beginning = "random";  ///< coefficients to begin with: random, svd or kmeans
  torch::Tensor coefficients{};      ///< [rows, features] > 0 to begin with instead, where defined
  int64_t iterations = 2000;         ///< at most
  int64_t patience = 100;            ///< iterations without an improvement before it stops
  double tolerance = 1e-4;           ///< relative; what counts as an improvement
  uint64_t seed = 1;
};

struct SemiNmf {
  torch::Tensor features;      ///< [features, width] float32
  torch::Tensor coefficients;  ///< [rows, features] float32, >= 0, columns of norm 1 before their last update
  std::vector<double> losses;  ///< ||A - coefficients . features||^2 after each iteration
  int64_t best = 0;            ///< the iteration, from 0, whose factors these are
  int64_t reseeded = 0;        ///< features that had died and began anew at the row reconstructed worst
};

/// Alternates a ridge least-squares step for the features, winner-take-all, a rescaling, and the multiplicative step for the
/// coefficients; keeps the factors of least loss. The residual is never formed: its norm follows from products at hand.
/// @param activations [rows, width] float32
/// @throws UsageError for options that cannot be; Error if there are fewer distinct rows than features (kmeans), rows that are all zero, or a
///         value that is not finite; Interrupted
SemiNmf semi_nmf(const torch::Tensor& activations, const SemiNmfOptions& options);

/// Coefficients [rows, features] of new rows for features that stay, by the multiplicative step alone.
torch::Tensor semi_nmf_coefficients(const torch::Tensor& activations, const torch::Tensor& features, int64_t iterations = 200);

/// Features of features: the features of one factorisation are the rows of the next (recursive SNMF). ranks descend, e.g. {100, 50, 20}.
/// Rows are brought to norm 1 between levels, and the scale goes into the coefficients.
/// @return one factorisation a level; level 0 is of the activations
std::vector<SemiNmf> semi_nmf_hierarchy(const torch::Tensor& activations, const std::vector<int64_t>& ranks, const SemiNmfOptions& options);

}  // namespace sememe
