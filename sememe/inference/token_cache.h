#pragma once
// Keys and values of the tokens that a sequence has had, in float16, as kernels/cached_attention.h lays them out.

#include <cstdint>
#include <vector>

#include "sememe/families/transformer_config.h"

namespace sememe {

class TokenCache {
 public:
  explicit TokenCache(const TransformerConfig& config);

  /// Tokens whose keys and values are there.
  int64_t tokens() const { return tokens_; }
  /// Makes room for so many in all. Room grows by half at a time, so that it follows the text and not the longest context.
  void reserve(int64_t tokens);
  /// The tokens beyond the first `tokens` are forgotten, or those that were stored since are kept.
  void set_tokens(int64_t tokens) { tokens_ = tokens; }

  uint16_t* keys(int64_t layer, int64_t head) { return data_[layer].data() + 2 * head * room_ * head_width_; }
  uint16_t* values(int64_t layer, int64_t head) { return data_[layer].data() + (2 * head + 1) * room_ * head_width_; }
  /// A head's width with its padding.
  int64_t head_width() const { return head_width_; }

 private:
  int64_t heads_, head_width_, room_ = 0, tokens_ = 0;
  std::vector<std::vector<uint16_t>> data_;  ///< of each layer, [heads, keys then values, room, head_width]
};

}  // namespace sememe
