#pragma once
// Which sentences stand in a text word for word, e.g. in the text that a model was trained on.

#include <span>
#include <string>
#include <vector>

#include "sememe/data/corpus.h"

namespace sememe {

/// For each sentence whether its words stand one after another in a document of the corpus, whatever lies between them besides letters and
/// digits and whatever their case. Words of letters outside ASCII are compared byte by byte.
/// @throws Error for a sentence of fewer than 4 words: it may stand anywhere
std::vector<bool> stand_in(std::span<const std::string> sentences, Corpus& corpus);

}  // namespace sememe
