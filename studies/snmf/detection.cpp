#include "studies/snmf/detection.h"

#include <algorithm>
#include <span>

#include "sememe/base/random.h"
#include "sememe/features/bootstrap.h"
#include "studies/snmf/glosses.h"

namespace sememe::snmf {
namespace {

double share_above_zero(const std::vector<double>& scores) {
  return static_cast<double>(std::count_if(scores.begin(), scores.end(), [](double score) { return score > 0; })) /
         static_cast<double>(scores.size());
}

}  // namespace

double Detection::positive() const { return share_above_zero(scores); }

Json Detection::json() const {
  return {{"positive", positive()}, {"mean", mean(scores)}, {"positive_all_sentences", share_above_zero(all_scores)},
          {"mean_all_sentences", mean(all_scores)}, {"features", scores.size()}};
}

Detection detect(const torch::Tensor& directions, const std::vector<int64_t>& labels, const LabelledTokens& heldout, uint64_t seed) {
  const torch::Tensor scores = sentence_scores(heldout, directions);
  Detection detection;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0) continue;
    RandomStream stream(seed, fmt::format("snmf/detection/{}", i));
    std::vector<double> activating, neutral;
    for (const int64_t sentence : permutation(scores.size(0), stream)) {
      const int64_t label = heldout.labels[heldout.offsets[sentence]];
      (label == labels[i] ? activating : neutral).push_back(scores[sentence][static_cast<int64_t>(i)].item<double>());
    }
    detection.all_scores.push_back(detection_score(activating, neutral));
    detection.scores.push_back(detection_score(std::span(activating).first(kSentences), std::span(neutral).first(kSentences)));
  }
  return detection;
}

}  // namespace sememe::snmf
