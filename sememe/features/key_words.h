#pragma once
// Which words set the places where a latent fires apart from the rest of the text, and how well they foretell it.

#include <cstdint>
#include <span>
#include <vector>

namespace sememe {

/// How often a word stands at places of two kinds.
struct WordCount {
  int32_t word = 0;
  int64_t firings = 0;      ///< places with this word at which the latent fires
  int64_t occurrences = 0;  ///< all places with this word, firing or not
};

struct KeyWord {
  int32_t word = 0;
  int64_t firings = 0, occurrences = 0;
  double log_odds = 0.0;  ///< of the word where the latent fires, over the word elsewhere; shrunk by the prior
  double z = 0.0;         ///< log_odds in standard deviations
};

/// Log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, "Fightin' Words", eqs. 15, 19, 20, 22): the two
/// texts compared are the places where the latent fires and the places where it does not; the prior is the whole text's distribution,
/// `prior_places` places strong.
/// @param counts words with at least one firing, each once
/// @param places of the whole text, firing or not
/// @return the words that fire more than elsewhere (log_odds > 0), highest z first, ties by word
std::vector<KeyWord> contrast_words(std::span<const WordCount> counts, int64_t places, double prior_places = 1000.0);

/// Area under the precision-recall steps when places are taken in order of the score of their word, all places of one score at once, and
/// places of unnamed words last: sum over steps of (recall gained) x (precision so far).
/// @param ordered groups of places, best first: firings and occurrences of each
/// @param firings, places of the whole text
/// @return 1 where the named words hold every firing and nothing else, about firings / places where they say nothing; 0 without firings
double average_precision(std::span<const WordCount> ordered, int64_t firings, int64_t places);

}  // namespace sememe
