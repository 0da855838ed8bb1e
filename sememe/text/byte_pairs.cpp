#include "sememe/text/byte_pairs.h"

namespace sememe {

BytePairs::BytePairs(const TokenizerFile& file, const std::vector<std::string>& spellings)
    : merges_(merges_of(file)), whole_words_first_(file.ignore_merges) {
  byte_ids_.fill(-1);
  for (size_t id = 0; id < spellings.size(); ++id) {
    if (!file.tokens[id].encodes()) continue;
    if (spellings[id].size() == 1) byte_ids_[static_cast<unsigned char>(spellings[id][0])] = static_cast<int32_t>(id);
    if (whole_words_first_) whole_words_.emplace(spellings[id], static_cast<int32_t>(id));
  }
}

void BytePairs::segment(std::string_view word, std::vector<int32_t>& ids) const {
  if (whole_words_first_) {
    if (const auto found = whole_words_.find(word); found != whole_words_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  for (const unsigned char byte : word)
    if (byte_ids_[byte] >= 0) ids.push_back(byte_ids_[byte]);
  merges_.apply(ids);
}

}  // namespace sememe
