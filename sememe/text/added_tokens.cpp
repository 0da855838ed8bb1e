#include "sememe/text/added_tokens.h"

namespace sememe {

AddedTokens::AddedTokens(std::span<const AddedToken> tokens) {
  for (const AddedToken& token : tokens) {
    trie_.insert(token.content, static_cast<int32_t>(ids_.size()));
    ids_.push_back(token.id);
    strips_.emplace_back(token.left_strip, token.right_strip);
  }
}

}  // namespace sememe
