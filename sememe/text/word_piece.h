#pragma once
// WordPiece (Schuster & Nakajima 2012; as BERT's, Devlin et al. 2019): from the left, the longest token that the rest of a word begins
// with; a word that cannot be covered is unknown as a whole.

#include <string>
#include <string_view>

#include "sememe/text/segmenter.h"
#include "sememe/text/tokenizer_file.h"
#include "sememe/text/trie.h"

namespace sememe {

class WordPiece : public Segmenter {
 public:
  explicit WordPiece(const TokenizerFile& file);
  void segment(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  Trie beginnings_, continuations_;
  int64_t most_characters_;  ///< of a word; longer ones are unknown
  int32_t unknown_;
};

}  // namespace sememe
