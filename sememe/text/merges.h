#pragma once
// Byte-pair encoding's ordered merges (Sennrich et al. 2016) and how they are applied to one word.

#include <cstdint>
#include <optional>
#include <vector>

namespace sememe {

/// Which pairs of tokens merge, into what, and in which order.
class Merges {
 public:
  struct Merge {
    int32_t rank;  ///< lower merges first; pairs may share one
    int32_t token;
  };

  explicit Merges(size_t expected = 0);
  /// A pair that is given twice keeps its last rank. `left` and `right` >= 0.
  void insert(int32_t left, int32_t right, Merge merge);
  /// Merge of the pair, or a null pointer.
  const Merge* find(int32_t left, int32_t right) const;

  /// Merges the lowest rank first, the leftmost of equals, until no pair of neighbours merges. O(n log n).
  void apply(std::vector<int32_t>& tokens) const;

 private:
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge{};
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t slot_of(uint64_t pair) const;
  void grow();
  void apply_to_short(std::vector<int32_t>& tokens) const;
  void apply_to_long(std::vector<int32_t>& tokens) const;

  std::vector<Slot> slots_;  ///< open addressing, at most half full; the size is a power of two
  size_t count_ = 0;
};

}  // namespace sememe
