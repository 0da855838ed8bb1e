#include "sememe/text/merges.h"

#include <bit>
#include <queue>
#include <tuple>

namespace sememe {
namespace {

/// Up to this many tokens a scan for the lowest rank beats a queue.
constexpr size_t kShortWord = 24;

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Merges::Merges(size_t expected) : slots_(std::bit_ceil(2 * expected + 2)) {}

size_t Merges::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  // Fibonacci hashing: the upper bits of the product depend on both tokens.
  size_t index = (pair * 0x9E3779B97F4A7C15u) >> 20 & mask;
  while (slots_[index].pair != pair && slots_[index].pair != kEmpty) index = (index + 1) & mask;
  return index;
}

void Merges::insert(int32_t left, int32_t right, Merge merge) {
  if (2 * (count_ + 1) > slots_.size()) grow();
  Slot& slot = slots_[slot_of(pair_key(left, right))];
  if (slot.pair == kEmpty) ++count_;
  slot = {pair_key(left, right), merge};
}

void Merges::grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.pair != kEmpty) slots_[slot_of(slot.pair)] = slot;
}

const Merges::Merge* Merges::find(int32_t left, int32_t right) const {
  const Slot& slot = slots_[slot_of(pair_key(left, right))];
  return slot.pair == kEmpty ? nullptr : &slot.merge;
}

void Merges::apply(std::vector<int32_t>& tokens) const {
  if (tokens.size() <= kShortWord) {
    apply_to_short(tokens);
  } else {
    apply_to_long(tokens);
  }
}

void Merges::apply_to_short(std::vector<int32_t>& tokens) const {
  constexpr Merge kNone{INT32_MAX, -1};
  size_t size = tokens.size();
  const auto merge_at = [&](size_t i) {
    const Merge* const merge = find(tokens[i], tokens[i + 1]);
    return merge ? *merge : kNone;
  };
  Merge candidates[kShortWord];
  for (size_t i = 0; i + 1 < size; ++i) candidates[i] = merge_at(i);
  while (size > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < size; ++i)
      if (candidates[i].rank < candidates[best].rank) best = i;
    if (candidates[best].token < 0) break;
    tokens[best] = candidates[best].token;
    --size;
    for (size_t i = best + 1; i < size; ++i) tokens[i] = tokens[i + 1];
    for (size_t i = best + 1; i + 1 < size; ++i) candidates[i] = candidates[i + 1];
    if (best > 0) candidates[best - 1] = merge_at(best - 1);
    if (best + 1 < size) candidates[best] = merge_at(best);
  }
  tokens.resize(size);
}

void Merges::apply_to_long(std::vector<int32_t>& tokens) const {
  const int64_t size = static_cast<int64_t>(tokens.size());
  // A doubly linked list over positions; a token that was swallowed by its left neighbour becomes -1.
  std::vector<int64_t> next(tokens.size()), previous(tokens.size());
  using Candidate = std::tuple<int32_t, int64_t, int32_t>;  // rank, position, merged token
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int64_t left) {
    if (left < 0 || next[left] >= size) return;
    if (const Merge* const merge = find(tokens[left], tokens[next[left]]))
      queue.emplace(merge->rank, left, merge->token);
  };
  for (int64_t i = 0; i < size; ++i) next[i] = i + 1, previous[i] = i - 1;
  for (int64_t i = 0; i < size; ++i) offer(i);
  while (!queue.empty()) {
    const auto [rank, left, token] = queue.top();
    queue.pop();
    if (tokens[left] < 0 || next[left] >= size) continue;
    const Merge* const merge = find(tokens[left], tokens[next[left]]);
    if (!merge || merge->rank != rank || merge->token != token) continue;  // a neighbour merged meanwhile
    const int64_t right = next[left];
    tokens[left] = token;
    tokens[right] = -1;
    next[left] = next[right];
    if (next[left] < size) previous[next[left]] = left;
    offer(left);
    offer(previous[left]);
  }
  std::erase(tokens, -1);
}

}  // namespace sememe
