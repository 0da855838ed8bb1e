#pragma once
// Is a dictionary true? Sparsity, reconstruction, and what the model loses when the reconstruction takes the activation's place.

#include <torch/torch.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
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

  /// x and reconstruction [n, width]
  void add(const torch::Tensor& x, const SparseCodes& codes, const torch::Tensor& reconstruction);

  int64_t rows() const { return rows_; }
  torch::Tensor mean() const { return sum_ / static_cast<double>(rows_); }  ///< [width] float64
  double l0() const { return static_cast<double>(entries_) / static_cast<double>(rows_); }
  /// Sum of ||x - x^||^2 over the sum of ||x - mean||^2, the mean being the whole set's.
  double fvu() const;
  int64_t dead() const;   ///< latents that never fired
  int64_t dense() const;  ///< latents that fired on more than a tenth of the rows
  /// Latents by log10 of their density: bin i holds [-6 + i/4, -6 + (i+1)/4); what never fired is in none.
  std::vector<int64_t> density_histogram() const;
  const torch::Tensor& firings() const { return firings_; }  ///< [latents] int64

 private:
  int64_t rows_ = 0, entries_ = 0;
  double squares_ = 0.0, errors_ = 0.0;
  torch::Tensor sum_, origin_;  // sums are of x - origin, the first row: large common offsets then cost no digits
  torch::Tensor firings_;
};

struct EvaluationOptions {
  std::string site;
  int64_t tokens = 65536;       ///< of the text
  int64_t batch_tokens = 2048;  ///< tokens a forward pass
  torch::Device device = torch::kCPU;
};

/// Runs the model over the text clean, with zeros, with the mean and with the reconstruction at the site; the leading end-of-text
/// position of a context is never replaced. Cross-entropies are nats per predicted token; kl is KL(clean || dictionary).
/// ce_recovered = (ce_zero - ce_dictionary) / (ce_zero - ce_clean); ce_recovered_mean likewise from ce_mean.
/// Selection is plain; for an architecture that can select by gradients the figures with them stand under keys + "_gradient": they
/// look at the true next token.
/// @throws UsageError for a site that does not exist, Error if widths differ or the text has no tokens, Interrupted
Json evaluate_dictionary(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                         const EvaluationOptions& options);

}  // namespace sememe
