#pragma once
// Learns byte pairs (Sennrich et al. 2016): again and again the most frequent pair of neighbours inside words becomes a
// token.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sememe {

struct LearnedMerges {
  /// The 256 bytes in the order of the characters that stand for them, then what the merges make, in order.
  std::vector<std::string> tokens;
  /// Pairs of indices into `tokens`. Two merges may make the same token, so there can be more than tokens.size() - 256.
  std::vector<std::pair<int32_t, int32_t>> merges;
};

/// Learns from the words of the texts that `next` yields until there are `tokens` tokens. Of pairs that are equally
/// frequent, the one of lower tokens goes first. Each distinct word is held in memory once.
/// @throws UsageError unless 256 <= tokens <= 2^20; Error if the texts are too small to give that many
LearnedMerges learn_merges(const std::function<std::optional<std::string>()>& next, int64_t tokens);

}  // namespace sememe
