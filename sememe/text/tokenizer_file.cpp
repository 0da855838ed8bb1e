#include "sememe/text/tokenizer_file.h"

namespace sememe {

std::array<int32_t, 256> TokenizerFile::byte_tokens() const {
  std::array<int32_t, 256> ids;
  ids.fill(-1);
  for (size_t id = 0; id < tokens.size(); ++id)
    if (const int byte = byte_of_name(tokens[id].name); byte >= 0 && ids[byte] < 0) ids[byte] = static_cast<int32_t>(id);
  return ids;
}

Merges merges_of(const TokenizerFile& file) {
  Merges merges(file.merges.size());
  for (const auto& [left, right, merged, rank] : file.merges) merges.insert(left, right, {rank, merged});
  return merges;
}

}  // namespace sememe
