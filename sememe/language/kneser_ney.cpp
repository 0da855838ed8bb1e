#include "sememe/language/kneser_ney.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr int kHighestOrder = 5;
constexpr int64_t kMostIds = int64_t{1} << 25;  // five ids fit in 128 bits

/// Index into Discounts of an n-gram that occurs `count` times.
size_t discount_of(uint32_t count) {
  return std::min<uint32_t>(count, 3) - 1;
}

}  // namespace

Discounts kneser_ney_discounts(const std::array<int64_t, 4>& occurring) {
  const double n1 = static_cast<double>(occurring[0]), n2 = static_cast<double>(occurring[1]);
  const double n3 = static_cast<double>(occurring[2]), n4 = static_cast<double>(occurring[3]);
  const double single = n1 > 0 ? n1 / (n1 + 2 * n2) : 0.5;
  const Discounts simple = {single, single, single};
  if (n1 == 0 || n2 == 0 || n3 == 0 || n4 == 0) return simple;
  const Discounts modified = {1 - 2 * single * n2 / n1, 2 - 3 * single * n3 / n2, 3 - 4 * single * n4 / n3};
  for (size_t i = 0; i < 3; ++i)
    if (modified[i] < 0 || modified[i] > static_cast<double>(i + 1)) return simple;
  return modified;
}

KneserNey::KneserNey(std::span<const int32_t> tokens, int32_t separator, int64_t vocabulary, int order)
    : separator_(separator), vocabulary_(vocabulary) {
  if (order < 1 || order > kHighestOrder) fail_usage("n-grams of order {}: give 1 to {}", order, kHighestOrder);
  if (vocabulary < 2 || vocabulary > kMostIds) fail_usage("a vocabulary of {}: give 2 to {} ids", vocabulary, kMostIds);
  check(separator, 0);
  for (size_t i = 0; i < tokens.size(); ++i) check(tokens[i], i);
  bits_ = std::bit_width(static_cast<uint64_t>(vocabulary - 1));
  levels_.resize(order);

  std::vector<Key> grams = highest_grams(tokens);
  for (int n = order; n >= 1; --n) {
    Level& level = levels_[n - 1];
    count(grams, level);
    // Below the highest order the counts so far are of distinct left neighbours; what begins a document has none.
    if (n < order && n > 1) add_beginnings(beginnings(tokens, n), level);
    weigh(level);
    grams.clear();
    if (n == 1) break;
    grams.reserve(level.grams.size());
    for (const Key gram : level.grams) grams.push_back(last(gram, n - 1));
  }
  if (levels_[0].grams.empty()) fail("an n-gram model cannot be learnt: the text has no tokens but separators");
}

void KneserNey::check(int32_t id, size_t place) const {
  if (id < 0 || id >= vocabulary_) fail("token {} at place {} is not in 0 .. {}", id, place, vocabulary_ - 1);
}

KneserNey::Key KneserNey::last(Key key, int ids) const {
  return key & ((Key{1} << (ids * bits_)) - 1);
}

/// Every window of the highest order in [separator, tokens of a document...].
std::vector<KneserNey::Key> KneserNey::highest_grams(std::span<const int32_t> tokens) const {
  std::vector<Key> grams;
  grams.reserve(tokens.size());
  Key window = static_cast<Key>(separator_);
  int filled = 1;
  for (const int32_t token : tokens) {
    if (token == separator_) {
      window = static_cast<Key>(separator_);
      filled = 1;
      continue;
    }
    window = last(window << bits_ | static_cast<Key>(token), order());
    filled = std::min(filled + 1, order());
    if (filled == order()) grams.push_back(window);
  }
  return grams;
}

/// The first n-gram of each document, the separator included, where the document is long enough.
std::vector<KneserNey::Key> KneserNey::beginnings(std::span<const int32_t> tokens, int order) const {
  std::vector<Key> grams;
  Key window = static_cast<Key>(separator_);
  int filled = 1;
  for (const int32_t token : tokens) {
    if (token == separator_) {
      window = static_cast<Key>(separator_);
      filled = 1;
    } else if (filled < order) {
      window = window << bits_ | static_cast<Key>(token);
      if (++filled == order) grams.push_back(window);
    }
  }
  return grams;
}

/// Sorts `grams` and puts the distinct ones with their counts into `level`.
void KneserNey::count(std::vector<Key>& grams, Level& level) {
  std::sort(grams.begin(), grams.end());
  size_t distinct = 0;
  for (size_t i = 0; i < grams.size(); ++i) distinct += i == 0 || grams[i] != grams[i - 1];
  level.grams.reserve(distinct);
  level.counts.reserve(distinct);
  for (size_t i = 0; i < grams.size(); ++i) {
    if (i == 0 || grams[i] != grams[i - 1]) {
      level.grams.push_back(grams[i]);
      level.counts.push_back(0);
    }
    ++level.counts.back();
  }
}

/// Merges n-grams that begin a document, which `level` does not hold yet, with their occurrences.
void KneserNey::add_beginnings(std::vector<Key> begins, Level& level) const {
  Level first;
  count(begins, first);
  Level merged;
  merged.grams.reserve(level.grams.size() + first.grams.size());
  merged.counts.reserve(merged.grams.capacity());
  for (size_t i = 0, j = 0; i < level.grams.size() || j < first.grams.size();) {
    const bool take_first = i == level.grams.size() || (j < first.grams.size() && first.grams[j] < level.grams[i]);
    merged.grams.push_back(take_first ? first.grams[j] : level.grams[i]);
    merged.counts.push_back(take_first ? first.counts[j++] : level.counts[i++]);
  }
  level = std::move(merged);
}

/// Discounts, and for each history the total count and the weight that the discounts free for the lower order.
void KneserNey::weigh(Level& level) const {
  std::array<int64_t, 4> occurring{};
  for (const uint32_t count : level.counts)
    if (count <= 4) ++occurring[count - 1];
  level.discounts = kneser_ney_discounts(occurring);
  for (size_t begin = 0, end = 0; begin < level.grams.size(); begin = end) {
    const Key history = level.grams[begin] >> bits_;
    double total = 0, freed = 0;
    for (; end < level.grams.size() && level.grams[end] >> bits_ == history; ++end) {
      total += level.counts[end];
      freed += level.discounts[discount_of(level.counts[end])];
    }
    level.histories.push_back(history);
    level.totals.push_back(total);
    level.lower.push_back(freed / total);
  }
}

double KneserNey::probability_at(int order, Key history, int32_t token) const {
  if (order == 0) return 1.0 / static_cast<double>(vocabulary_ - 1);
  const Level& level = levels_[order - 1];
  const double below = probability_at(order - 1, order > 1 ? last(history, order - 2) : Key{0}, token);
  const auto found = std::lower_bound(level.histories.begin(), level.histories.end(), history);
  if (found == level.histories.end() || *found != history) return below;
  const size_t index = static_cast<size_t>(found - level.histories.begin());
  const Key gram = history << bits_ | static_cast<Key>(token);
  const auto seen = std::lower_bound(level.grams.begin(), level.grams.end(), gram);
  double own = 0;
  if (seen != level.grams.end() && *seen == gram) {
    const uint32_t count = level.counts[seen - level.grams.begin()];
    own = (count - level.discounts[discount_of(count)]) / level.totals[index];
  }
  return own + level.lower[index] * below;
}

double KneserNey::probability(std::span<const int32_t> history, int32_t token) const {
  check(token, history.size());
  if (token == separator_) fail("token {} is the separator, which has no probability", token);
  Key key = 0;
  int length = 0;
  for (size_t i = history.size(); i-- > 0 && length + 1 < order();) {
    check(history[i], i);
    key |= static_cast<Key>(history[i]) << (length++ * bits_);
    if (history[i] == separator_) break;
  }
  return probability_at(length + 1, key, token);
}

double KneserNey::bits(std::span<const int32_t> document) const {
  double total = 0;
  Key history = static_cast<Key>(separator_);
  int length = std::min(1, order() - 1);
  for (size_t i = 0; i < document.size(); ++i) {
    check(document[i], i);
    if (document[i] == separator_) {
      history = static_cast<Key>(separator_);
      length = std::min(1, order() - 1);
      continue;
    }
    total -= std::log2(probability_at(length + 1, last(history, length), document[i]));
    length = std::min(length + 1, order() - 1);
    history = last(history << bits_ | static_cast<Key>(document[i]), length);
  }
  return total;
}

}  // namespace sememe
