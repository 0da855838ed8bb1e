#pragma once
// Sentences with a concept: WordNet's definitions by the lexicographer file of their synset, split by what the model has read of them.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "sememe/text/tokenizer.h"

namespace sememe::snmf {

// Lexicographer classes that name a subject; what is left out (acts, states, attributes, ...) names a way of speaking.
constexpr std::array kConcepts = {
    "noun.animal",   "noun.artifact",   "noun.body",   "noun.cognition",  "noun.communication", "noun.feeling",  "noun.food",
    "noun.location", "noun.person",     "noun.phenomenon", "noun.plant",  "noun.possession",    "noun.quantity", "noun.shape",
    "noun.substance", "noun.time",      "verb.cognition",  "verb.communication", "verb.contact", "verb.motion"};
constexpr auto kNumConcepts = static_cast<int64_t>(kConcepts.size());

constexpr int64_t kSentences = 5;  // by which a feature is detected, activating ones and as many neutral ones

struct Sentences {
  std::vector<std::string> texts;
  std::vector<int64_t> labels;

  void add(const std::string& text, int64_t label) {
    texts.push_back(text);
    labels.push_back(label);
  }
  std::vector<std::vector<int32_t>> ids(const Tokenizer& tokenizer) const {
    std::vector<std::vector<int32_t>> ids;
    for (const std::string& text : texts) ids.push_back(tokenizer.encode(text));
    return ids;
  }
};

struct Split {
  Sentences fitted, judged;  ///< of every concept the same number
  Sentences heldout;         ///< those that do not stand in the model's training text
};

/// @param folder     of WordNet's database files
/// @param text       that the model was trained on
/// @param num_fitted sentences of a concept
/// @throws Error if a concept has too few
Split split_glosses(const std::filesystem::path& folder, const std::filesystem::path& text, int64_t num_fitted, uint64_t seed);

}  // namespace sememe::snmf
