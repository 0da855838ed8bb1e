#pragma once
// Is a dictionary true? Sparsity, reconstruction, and what the model loses when the reconstruction takes the activation's place.

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/dictionary.h"
#include "sememe/language/language_model.h"

namespace sememe {

/// Sums over rows from which sparsity and reconstruction figures follow; exact over the whole set, whatever the batches were.
class ReconstructionFigures {
 public:
  ReconstructionFigures(int64_t latents, int64_t width);

  /// x and reconstruction [n, width] on one device; the codes may be on another
  void add(const torch::Tensor& x, const SparseCodes& codes, const torch::Tensor& reconstruction);

  int64_t rows() const { return rows_; }
  torch::Tensor mean() const { return sum_ / static_cast<double>(rows_); }  ///< [width] float64
  double l0() const { return static_cast<double>(entries_) / static_cast<double>(rows_); }
  /// Sum of ||x - x^||^2 over the sum of ||x - mean||^2, the mean being the whole set's.
  double fvu() const;
  // Means over the rows that are not zero; of a reconstruction that is zero the cosine counts as 0.
  double nmse() const { return relative_errors_ / static_cast<double>(nonzero_rows_); }   ///< of ||x - x^||^2 / ||x||^2 (Gao et al. 2024)
  double cosine() const { return cosines_ / static_cast<double>(nonzero_rows_); }         ///< of x and x^
  double l2_ratio() const { return norm_ratios_ / static_cast<double>(nonzero_rows_); }   ///< of ||x^|| / ||x||
  /// Mean of ||x^||^2 over the mean of x . x^ (Rajamanoharan et al. 2024): below 1 the reconstruction is too small, as L1 makes it.
  /// Nothing if no reconstruction has a part along its row.
  std::optional<double> relative_bias() const;
  int64_t dead() const;   ///< latents that never fired
  int64_t dense() const;  ///< latents that fired on more than a tenth of the rows
  /// Latents by log10 of their density: bin i holds [-6 + i/4, -6 + (i+1)/4); what never fired is in none.
  std::vector<int64_t> density_histogram() const;
  /// Percentile `percent` of the latents' densities (firings / rows), those that never fired included, linear between neighbours.
  std::vector<double> density_percentiles(std::span<const double> percents) const;
  const torch::Tensor& firings() const { return firings_; }  ///< [latents] int64

 private:
  int64_t rows_ = 0, entries_ = 0;
  double squares_ = 0.0, errors_ = 0.0;
  int64_t nonzero_rows_ = 0;
  double relative_errors_ = 0.0, cosines_ = 0.0, norm_ratios_ = 0.0, reconstruction_squares_ = 0.0, products_ = 0.0;
  torch::Tensor sum_, origin_;  // sums are of x - origin, the first row: large common offsets then cost no digits
  torch::Tensor firings_;
};

struct EvaluationOptions {
  std::string site;
  int64_t tokens = 65536;       ///< of the text
  int64_t batch_tokens = 2048;  ///< tokens a forward pass
  uint64_t seed = 1;            ///< of the draw of contexts for the intervals
  torch::Device device = torch::kCPU;
};

/// Runs the model over the text clean, with zeros, with the mean over the text and with the reconstruction at the site; the leading
/// end-of-text position of a context is never replaced. Cross-entropies and divergences are nats per predicted token.
///     ce_recovered      = (ce_zero - ce_dictionary) / (ce_zero - ce_clean);  ce_recovered_mean likewise from ce_mean
///     delta_ce          = ce_dictionary - ce_clean
///     kl                = KL(clean || dictionary);  kl_zero and kl_mean likewise
///     kl_score          = (kl_zero - kl) / kl_zero;  kl_score_mean likewise from kl_mean
///     density_percentiles = {"1": .., "5": .., "25", "50", "75", "95", "99"} over all latents
/// and the figures of ReconstructionFigures under their names. ce_recovered, ce_recovered_mean, kl and fvu have 95 % intervals over
/// contexts (bootstrap_intervals) under the key + "_low" and + "_high", with at least 2 contexts; that of fvu keeps the whole set's mean.
/// Selection is plain; for an architecture that can select by gradients the figures with them stand under keys + "_gradient": they
/// look at the true next token.
/// @throws UsageError for a site that does not exist, Error if widths differ or the text has no tokens, Interrupted
Json evaluate_dictionary(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                         const EvaluationOptions& options);

}  // namespace sememe
