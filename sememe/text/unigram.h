#pragma once
// SentencePiece's unigram model (Kudo 2018): of all ways to cut a text into tokens, the one of the greatest sum of scores.

#include <array>
#include <string_view>
#include <vector>

#include "sememe/text/segmenter.h"
#include "sememe/text/tokenizer_file.h"
#include "sememe/text/trie.h"

namespace sememe {

class Unigram : public Segmenter {
 public:
  explicit Unigram(const TokenizerFile& file);
  /// O(bytes times the longest token). Neighbouring characters that no token covers are one unknown token, or their bytes.
  void segment(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  Trie trie_;
  std::vector<double> scores_;
  double unknown_score_;
  std::array<int32_t, 256> byte_ids_;
  int32_t unknown_;
  bool byte_fallback_, single_precision_;
};

}  // namespace sememe
