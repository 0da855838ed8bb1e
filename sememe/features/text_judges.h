#pragma once
// Judges of steered text that need no other model: does it speak of the concept, and does it read like text that was not steered?

#include <cstdint>
#include <span>
#include <vector>

namespace sememe {

/// Multinomial naive Bayes over token ids with Laplace smoothing and equal priors.
class NaiveBayes {
 public:
  /// @param documents token ids in 0 .. vocabulary - 1
  /// @param labels    one for each document, 0 .. num_labels - 1
  /// @throws Error if a label or an id is out of range, or a label has no document
  NaiveBayes(std::span<const std::vector<int32_t>> documents, std::span<const int64_t> labels, int64_t num_labels, int64_t vocabulary);

  /// [num_labels] probability of each label; equal ones for an empty document.
  std::vector<double> posterior(std::span<const int32_t> document) const;
  /// Share of documents whose label is the likeliest.
  double accuracy(std::span<const std::vector<int32_t>> documents, std::span<const int64_t> labels) const;

 private:
  int64_t vocabulary_;
  std::vector<std::vector<double>> log_probabilities_;  // [labels][vocabulary]
};

/// For each label the `count` ids that set its documents apart from the others by contrast_words(), among the ids that `eligible` marks.
std::vector<std::vector<int32_t>> label_word_lists(std::span<const std::vector<int32_t>> documents, std::span<const int64_t> labels,
                                                   int64_t num_labels, const std::vector<bool>& eligible, int64_t count);

/// 0 .. 2: 1 - exp(-rise) for the rise in nats of the log-probability of the concept's words (the share of their mass that steering
/// brought; 0 if it fell), plus the classifier's probability of the concept.
double concept_score(double rise, double posterior);

/// 0 .. 2 from the text's log-likelihood a token without steering: 0 below all unsteered samples, rising with their quantiles to 2 at their
/// median.
/// @param unsteered log-likelihoods of unsteered samples, ascending, at least one
double fluency_score(double log_likelihood, std::span<const double> unsteered);

/// Harmonic mean; 0 if either is 0 (the final score of Shafran et al. 2025).
double harmonic_mean(double first, double second);

}  // namespace sememe
