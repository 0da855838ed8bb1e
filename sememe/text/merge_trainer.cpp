#include "sememe/text/merge_trainer.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <queue>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/splitting_rule.h"

namespace sememe {
namespace {

struct WordHash {
  using is_transparent = void;
  size_t operator()(std::string_view word) const { return std::hash<std::string_view>{}(word); }
};

using WordCounts = std::unordered_map<std::string, int64_t, WordHash, std::equal_to<>>;

WordCounts count_words(const std::function<std::optional<std::string>()>& next) {
  WordCounts counts;
  while (const std::optional<std::string> text = next()) {
    for_each_word(SplittingRule::kGpt2, *text, [&](std::string_view word) {
      const auto found = counts.find(word);
      if (found != counts.end()) {
        ++found->second;
      } else {
        counts.emplace(word, 1);
      }
    });
    if (interrupted()) throw Interrupted("interrupted while counting words: no tokenizer was made");
  }
  return counts;
}

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

/// All distinct words end to end as linked tokens, where each pair occurs, and the queue of pairs by frequency.
class Learner {
 public:
  Learner(const WordCounts& counts, LearnedMerges& learned);
  /// Merges the most frequent pair. @returns false if no pair is left
  bool merge_next();

 private:
  struct Pair {
    int64_t count = 0;
    bool merged = false;
    std::vector<uint32_t> positions;  ///< of its left token; some may no longer hold
  };
  using Candidate = std::tuple<int64_t, uint64_t>;  // count, ~pair: the lower pair goes first

  void add(uint32_t left, int64_t weight);
  void remove(uint32_t left);
  void merge_at(uint32_t left, int32_t token);
  int32_t token_of(int32_t left, int32_t right);

  static constexpr uint32_t kNone = ~uint32_t{0};
  LearnedMerges& learned_;
  std::unordered_map<std::string, int32_t> ids_;
  std::vector<int32_t> tokens_;  ///< by position; -1 once swallowed by the left neighbour
  std::vector<uint32_t> next_, previous_, word_;
  std::vector<int64_t> weights_;  ///< how often each word occurs
  std::unordered_map<uint64_t, Pair> pairs_;
  std::vector<uint64_t> grown_;  ///< pairs that the current merge made more frequent
  std::priority_queue<Candidate> queue_;
};

Learner::Learner(const WordCounts& counts, LearnedMerges& learned) : learned_(learned) {
  std::array<int32_t, 256> byte_tokens;
  for (int32_t token = 0; token < 256; ++token) {
    byte_tokens[static_cast<unsigned char>(learned.tokens[token][0])] = token;
    ids_.emplace(learned.tokens[token], token);
  }
  for (const auto& [word, count] : counts) {
    const size_t start = tokens_.size();
    if (start + word.size() >= kNone) fail("the distinct words hold over 4 GiB of text: train the tokenizer on less");
    for (size_t i = 0; i < word.size(); ++i) {
      tokens_.push_back(byte_tokens[static_cast<unsigned char>(word[i])]);
      previous_.push_back(i == 0 ? kNone : static_cast<uint32_t>(start + i - 1));
      next_.push_back(i + 1 == word.size() ? kNone : static_cast<uint32_t>(start + i + 1));
      word_.push_back(static_cast<uint32_t>(weights_.size()));
    }
    weights_.push_back(count);
  }
  for (uint32_t position = 0; position < tokens_.size(); ++position)
    if (next_[position] != kNone) add(position, weights_[word_[position]]);
  for (const auto& [key, pair] : pairs_) queue_.emplace(pair.count, ~key);
  grown_.clear();
}

void Learner::add(uint32_t left, int64_t weight) {
  const uint64_t key = pair_key(tokens_[left], tokens_[next_[left]]);
  Pair& pair = pairs_[key];
  pair.count += weight;
  pair.positions.push_back(left);
  grown_.push_back(key);
}

void Learner::remove(uint32_t left) {
  pairs_[pair_key(tokens_[left], tokens_[next_[left]])].count -= weights_[word_[left]];
}

void Learner::merge_at(uint32_t left, int32_t token) {
  const uint32_t right = next_[left], before = previous_[left], after = next_[right];
  if (before != kNone) remove(before);
  if (after != kNone) remove(right);
  tokens_[left] = token;
  tokens_[right] = -1;
  next_[left] = after;
  if (after != kNone) previous_[after] = left;
  if (before != kNone) add(before, weights_[word_[left]]);
  if (after != kNone) add(left, weights_[word_[left]]);
}

int32_t Learner::token_of(int32_t left, int32_t right) {
  std::string bytes = learned_.tokens[left] + learned_.tokens[right];
  const auto [found, is_new] = ids_.emplace(std::move(bytes), static_cast<int32_t>(learned_.tokens.size()));
  if (is_new) learned_.tokens.push_back(found->first);
  return found->second;
}

bool Learner::merge_next() {
  while (!queue_.empty()) {
    const auto [count, complement] = queue_.top();
    const uint64_t key = ~complement;
    queue_.pop();
    Pair& pair = pairs_.at(key);
    if (pair.merged) continue;
    if (pair.count != count) {  // the count fell since: queue it again where it belongs now
      if (pair.count > 0 && pair.count < count) queue_.emplace(pair.count, complement);
      continue;
    }
    const int32_t left = static_cast<int32_t>(key >> 32), right = static_cast<int32_t>(key & 0xFFFFFFFFu);
    const int32_t token = token_of(left, right);
    learned_.merges.emplace_back(left, right);
    pair.merged = true;
    std::vector<uint32_t> positions = std::move(pair.positions);
    std::sort(positions.begin(), positions.end());  // left to right: in "aaa" the first two merge
    for (const uint32_t position : positions) {
      if (tokens_[position] != left || next_[position] == kNone || tokens_[next_[position]] != right) continue;
      merge_at(position, token);
    }
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const uint64_t grown : grown_)
      if (const Pair& other = pairs_.at(grown); other.count > 0 && !other.merged) queue_.emplace(other.count, ~grown);
    grown_.clear();
    return true;
  }
  return false;
}

std::vector<std::string> byte_tokens() {
  std::vector<int> order(256);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [](int a, int b) { return byte_characters()[a] < byte_characters()[b]; });
  std::vector<std::string> tokens;
  for (const int byte : order) tokens.emplace_back(1, static_cast<char>(byte));
  return tokens;
}

}  // namespace

LearnedMerges learn_merges(const std::function<std::optional<std::string>()>& next, int64_t tokens) {
  constexpr int64_t kMost = int64_t{1} << 20;
  if (tokens < 256 || tokens > kMost)
    fail_usage("a byte-level vocabulary has from 257 tokens (256 bytes and <|endoftext|>) to {}, not {}", kMost + 1,
               tokens + 1);
  LearnedMerges learned{byte_tokens(), {}};
  Learner learner(count_words(next), learned);
  while (static_cast<int64_t>(learned.tokens.size()) < tokens) {
    if (!learner.merge_next())
      fail("the text gives only {} tokens, {} were asked for: use more text or a smaller vocabulary",
           learned.tokens.size() + 1, tokens + 1);
    if (interrupted()) throw Interrupted("interrupted while learning merges: no tokenizer was made");
  }
  return learned;
}

}  // namespace sememe
