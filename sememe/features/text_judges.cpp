#include "sememe/features/text_judges.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/features/key_words.h"

namespace sememe {

NaiveBayes::NaiveBayes(std::span<const std::vector<int32_t>> documents, std::span<const int64_t> labels, int64_t num_labels,
                       int64_t vocabulary)
    : vocabulary_(vocabulary) {
  if (documents.size() != labels.size()) fail("{} documents were given {} labels", documents.size(), labels.size());
  std::vector<std::vector<double>> counts(num_labels, std::vector<double>(vocabulary, 1.0));  // Laplace
  std::vector<bool> seen(num_labels, false);
  for (size_t i = 0; i < documents.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= num_labels) fail("document {} has the label {}, there are {}", i, labels[i], num_labels);
    seen[labels[i]] = true;
    for (const int32_t id : documents[i]) {
      if (id < 0 || id >= vocabulary) fail("document {} holds the id {}, the vocabulary has {}", i, id, vocabulary);
      counts[labels[i]][id] += 1.0;
    }
  }
  for (int64_t label = 0; label < num_labels; ++label) {
    if (!seen[label]) fail("the label {} has no document", label);
    double sum = 0.0;
    for (const double count : counts[label]) sum += count;
    for (double& count : counts[label]) count = std::log(count / sum);
  }
  log_probabilities_ = std::move(counts);
}

std::vector<double> NaiveBayes::posterior(std::span<const int32_t> document) const {
  std::vector<double> posterior;
  for (const std::vector<double>& log_probabilities : log_probabilities_) {
    double sum = 0.0;
    for (const int32_t id : document)
      if (id >= 0 && id < vocabulary_) sum += log_probabilities[id];
    posterior.push_back(sum);
  }
  const double most = *std::max_element(posterior.begin(), posterior.end());
  double total = 0.0;
  for (double& value : posterior) total += value = std::exp(value - most);
  for (double& value : posterior) value /= total;
  return posterior;
}

double NaiveBayes::accuracy(std::span<const std::vector<int32_t>> documents, std::span<const int64_t> labels) const {
  int64_t right = 0;
  for (size_t i = 0; i < documents.size(); ++i) {
    const std::vector<double> probabilities = posterior(documents[i]);
    right += std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin() == labels[i];
  }
  return static_cast<double>(right) / static_cast<double>(documents.size());
}

std::vector<std::vector<int32_t>> label_word_lists(std::span<const std::vector<int32_t>> documents, std::span<const int64_t> labels,
                                                   int64_t num_labels, const std::vector<bool>& eligible, int64_t count) {
  const auto vocabulary = static_cast<int64_t>(eligible.size());
  std::vector<std::vector<int64_t>> counts(num_labels, std::vector<int64_t>(vocabulary, 0));
  std::vector<int64_t> occurrences(vocabulary, 0);
  int64_t places = 0;
  for (size_t i = 0; i < documents.size(); ++i)
    for (const int32_t id : documents[i]) {
      ++counts[labels[i]][id];
      ++occurrences[id];
      ++places;
    }
  std::vector<std::vector<int32_t>> lists;
  for (const std::vector<int64_t>& of_label : counts) {
    std::vector<WordCount> words;
    for (int32_t id = 0; id < vocabulary; ++id)
      if (of_label[id] > 0) words.push_back({id, of_label[id], occurrences[id]});
    std::vector<int32_t> list;
    for (const KeyWord& word : contrast_words(words, places))
      if (eligible[word.word] && static_cast<int64_t>(list.size()) < count) list.push_back(word.word);
    lists.push_back(std::move(list));
  }
  return lists;
}

double concept_score(double rise, double posterior) { return (rise > 0 ? 1.0 - std::exp(-rise) : 0.0) + posterior; }

double fluency_score(double log_likelihood, std::span<const double> unsteered) {
  const auto below = std::upper_bound(unsteered.begin(), unsteered.end(), log_likelihood) - unsteered.begin();
  return 2.0 * std::min(1.0, 2.0 * static_cast<double>(below) / static_cast<double>(unsteered.size()));
}

double harmonic_mean(double first, double second) { return first > 0 && second > 0 ? 2.0 * first * second / (first + second) : 0.0; }

}  // namespace sememe
