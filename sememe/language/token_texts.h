#pragma once
// Beginnings of documents as token ids, for the engine.

#include <cstdint>
#include <vector>

#include "sememe/data/corpus.h"
#include "sememe/text/tokenizer.h"

namespace sememe {

/// The beginnings of the first `count` documents that have `least` tokens or more, each what stands before a text and then at most `most` tokens in
/// all; fewer if the corpus has fewer.
std::vector<std::vector<int32_t>> token_texts(Corpus& corpus, const Tokenizer& tokenizer, int64_t least, int64_t most, int64_t count);

}  // namespace sememe
