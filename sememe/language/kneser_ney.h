#pragma once
// Interpolated modified Kneser-Ney n-grams over token ids (Chen & Goodman 1998, section 3): the count-based baseline
// that a neural language model has to beat over the same tokens.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace sememe {

/// Taken off counts of 1, 2 and more (Chen & Goodman 1998, eq. 26).
using Discounts = std::array<double, 3>;

/// D1, D2 and D3+ from how many n-grams occur 1, 2, 3 and 4 times. Where a discount would be outside [0, its count] or
/// one of the numbers is 0 (tiny texts), all three are Ney's single discount n1 / (n1 + 2 n2), and 1/2 where n1 is 0.
Discounts kneser_ney_discounts(const std::array<int64_t, 4>& occurring);

/// An n-gram model of documents. A document's first tokens are predicted from `separator`, which stands before it;
/// nothing before that counts. The separator itself is never predicted: probabilities over all other tokens of the
/// vocabulary sum to 1. Orders below the highest count distinct left neighbours, but n-grams that begin a document
/// count their occurrences; order 1 is interpolated with the uniform distribution.
class KneserNey {
 public:
  /// @param tokens     documents one after another with `separator` before or between them; other ids 0 .. vocabulary -
  /// 1
  /// @param vocabulary number of ids, the separator's among them; at least 2
  /// @param order      1 .. 5
  /// @throws Error if there are no tokens or an id is out of range (names its place); UsageError for a bad order or
  /// vocabulary. Memory: about 40 bytes for each distinct n-gram of each order.
  KneserNey(std::span<const int32_t> tokens, int32_t separator, int64_t vocabulary, int order = 5);

  /// P(token | history); only the last order - 1 ids of `history` count, and of these only what follows and includes
  /// the last separator. @throws Error if an id is out of range or `token` is the separator
  double probability(std::span<const int32_t> history, int32_t token) const;

  /// Code length in bits of a document's tokens, the first predicted from the separator. Separators inside start anew
  /// and cost nothing.
  double bits(std::span<const int32_t> document) const;

  int order() const { return static_cast<int>(levels_.size()); }
  const Discounts& discounts(int order) const { return levels_.at(order - 1).discounts; }
  /// Number of distinct n-grams of the order.
  int64_t size(int order) const { return static_cast<int64_t>(levels_.at(order - 1).grams.size()); }

 private:
  using Key = unsigned __int128;  ///< the ids of an n-gram, the first in the highest bits
  struct Level {
    std::vector<Key> grams;  ///< sorted; all n-grams of one history stand together
    std::vector<uint32_t> counts;
    std::vector<Key> histories;  ///< sorted
    std::vector<double> totals;  ///< of the counts after each history
    std::vector<double> lower;   ///< weight of the lower order after each history
    Discounts discounts{};
  };

  std::vector<Key> highest_grams(std::span<const int32_t> tokens) const;
  std::vector<Key> beginnings(std::span<const int32_t> tokens, int order) const;
  static void count(std::vector<Key>& grams, Level& level);
  void add_beginnings(std::vector<Key> begins, Level& level) const;
  void weigh(Level& level) const;
  double probability_at(int order, Key history, int32_t token) const;
  Key last(Key key, int ids) const;
  void check(int32_t id, size_t place) const;

  int32_t separator_;
  int64_t vocabulary_;
  int bits_;  ///< of an id in a key
  std::vector<Level> levels_;
};

}  // namespace sememe
