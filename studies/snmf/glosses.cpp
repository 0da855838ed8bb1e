#include "studies/snmf/glosses.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/data/corpus.h"
#include "sememe/data/seen_text.h"
#include "sememe/data/wordnet.h"

namespace sememe::snmf {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kJudged = 200;  // sentences of a concept from which the judges learn, none of them fitted
constexpr int64_t kHeldOut = 50;  // sentences of a concept, at most, on which features are detected

}  // namespace

Split split_glosses(const fs::path& folder, const fs::path& text, int64_t num_fitted, uint64_t seed) {
  Sentences all;
  for (const LabelledSentence& sentence : read_wordnet_glosses(folder)) {
    const auto label = std::find(kConcepts.begin(), kConcepts.end(), sentence.label) - kConcepts.begin();
    if (label < kNumConcepts) all.add(sentence.text, label);
  }
  note("looking for the glosses in the model's training text");
  const std::vector<bool> seen = stand_in(all.texts, *open_corpus(text));
  Split split;
  std::vector<int64_t> fitted(kNumConcepts, 0), judged(kNumConcepts, 0), heldout(kNumConcepts, 0);
  RandomStream stream(seed, "snmf/split");
  for (const int64_t i : permutation(static_cast<int64_t>(all.texts.size()), stream)) {
    const int64_t label = all.labels[i];
    if (!seen[i]) {
      if (heldout[label]++ < kHeldOut) split.heldout.add(all.texts[i], label);
    } else if (fitted[label] < num_fitted) {
      ++fitted[label];
      split.fitted.add(all.texts[i], label);
    } else if (judged[label] < kJudged) {
      ++judged[label];
      split.judged.add(all.texts[i], label);
    }
  }
  for (int64_t label = 0; label < kNumConcepts; ++label)
    if (fitted[label] < num_fitted || judged[label] < kJudged || heldout[label] < kSentences)
      fail("{}: {} has {} glosses in {} and {} others; the study needs {} and {}", folder.string(), kConcepts[label],
           fitted[label] + judged[label], text.string(), heldout[label], num_fitted + kJudged, kSentences);
  return split;
}

}  // namespace sememe::snmf
