#pragma once
// Several dictionaries held against one another: their figures, which of them no other beats, how alike their atoms are, and a page
// that shows it.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sememe/base/json.h"

namespace sememe {

struct ComparedDictionary {
  std::filesystem::path folder;  ///< made by dictionary train
  std::string name;              ///< differs from the others'
  std::optional<Json> evaluation;  ///< as evaluate_dictionary() gives it
  std::string evaluation_source;   ///< the file it is from, for messages
};

struct ComparisonOptions {
  std::optional<std::filesystem::path> activations{};  ///< rows that all dictionaries encode
  int64_t rows = 50'000;       ///< of them, at most
  double threshold = 0.7;      ///< cosine above which an atom of a larger dictionary counts as part of one of a smaller
};

/// The dictionaries that folders stand for: a dictionary itself, or all those inside a folder, in the order of the text "k8 < k16"
/// (numbers by value); a folder named twice counts once. Names are folder names, or the paths as given where two names are the same. Evaluations
/// are read where find_evaluation() finds them.
/// @throws Error for a folder that is neither
std::vector<ComparedDictionary> find_compared(const std::vector<std::filesystem::path>& folders);

/// JSON with
///     dictionaries: name, architecture, latents, width, and where known k, site, seed, recipe, evaluation, training, on_activations
///     recipes:      what the settings of training, without the seed, have in common: dictionaries (their places), stability (mean
///                   matched cosine over pairs of seeds)
///     pairs:        first, second (places), seeds (same recipe), matched_cosine, matched_above_07 and _09, first_nearest and
///                   second_nearest (mean_cosine, above_07, above_09), splitting where sizes differ (FeatureSplitting::summary())
///     front:        places of the evaluated dictionaries that no other beats or equals in both l0 and ce_recovered
///     findings, warnings: sentences
/// @throws Error for dictionaries of different widths or a file that is damaged; Interrupted
Json compare_dictionaries(const std::vector<ComparedDictionary>& dictionaries, const ComparisonOptions& options);

/// The page with what compare_dictionaries() found. It fetches nothing.
std::string comparison_page(const Json& comparison);

}  // namespace sememe
