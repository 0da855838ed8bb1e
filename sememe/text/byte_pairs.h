#pragma once
// Byte-level byte-pair encoding (Radford et al. 2019): a word's bytes are merged by rank.

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sememe/text/merges.h"
#include "sememe/text/segmenter.h"
#include "sememe/text/tokenizer_file.h"

namespace sememe {

class BytePairs : public Segmenter {
 public:
  /// @param spellings by id, the bytes that a token stands for; must outlive this
  BytePairs(const TokenizerFile& file, const std::vector<std::string>& spellings);
  /// A byte that the vocabulary has no token for is left out, as PyPI's `tokenizers` does.
  void segment(std::string_view word, std::vector<int32_t>& ids) const override;

 private:
  Merges merges_;
  std::array<int32_t, 256> byte_ids_;
  std::unordered_map<std::string_view, int32_t> whole_words_;  ///< only filled where words that are tokens stay whole
  bool whole_words_first_;
};

}  // namespace sememe
