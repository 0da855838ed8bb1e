#include "sememe/features/key_words.h"

#include <algorithm>
#include <cmath>

namespace sememe {

std::vector<KeyWord> contrast_words(std::span<const WordCount> counts, int64_t places, double prior_places) {
  double firings = 0.0;
  for (const WordCount& count : counts) firings += static_cast<double>(count.firings);
  const double silent = static_cast<double>(places) - firings;
  std::vector<KeyWord> words;
  for (const WordCount& count : counts) {
    const double occurrences = static_cast<double>(count.occurrences);
    const double prior = prior_places * occurrences / static_cast<double>(places);
    const double here = static_cast<double>(count.firings) + prior;
    const double elsewhere = occurrences - static_cast<double>(count.firings) + prior;
    // Where the text is one word only there is nothing to compare it with.
    const double others_here = firings + prior_places - here, others_elsewhere = silent + prior_places - elsewhere;
    if (!(others_here > 0) || !(others_elsewhere > 0)) continue;
    const double log_odds = std::log(here / others_here) - std::log(elsewhere / others_elsewhere);
    if (!(log_odds > 0)) continue;
    words.push_back({count.word, count.firings, count.occurrences, log_odds, log_odds / std::sqrt(1 / here + 1 / elsewhere)});
  }
  std::sort(words.begin(), words.end(),
            [](const KeyWord& a, const KeyWord& b) { return a.z != b.z ? a.z > b.z : a.word < b.word; });
  return words;
}

double average_precision(std::span<const WordCount> ordered, int64_t firings, int64_t places) {
  if (firings == 0) return 0.0;
  double sum = 0.0;
  int64_t found = 0, taken = 0;
  const auto take = [&](int64_t fires, int64_t occurs) {
    found += fires;
    taken += occurs;
    if (taken > 0) sum += static_cast<double>(fires) * static_cast<double>(found) / static_cast<double>(taken);
  };
  for (const WordCount& group : ordered) take(group.firings, group.occurrences);
  take(firings - found, places - taken);
  return sum / static_cast<double>(firings);
}

}  // namespace sememe
