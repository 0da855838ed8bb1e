#pragma once
// Ids of words seen before: direct-mapped, so that its size is fixed whatever the text. Long words are rare: not kept.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace sememe {

class WordCache {
 public:
  static constexpr size_t kWordBytes = 24;
  static constexpr size_t kWordTokens = 8;

  struct Slot {
    std::array<char, kWordBytes> word{};
    uint8_t bytes = 0;  ///< 0: free
    uint8_t tokens = 0;
    std::array<int32_t, kWordTokens> ids{};

    bool holds(std::string_view other) const { return bytes == other.size() && std::memcmp(word.data(), other.data(), bytes) == 0; }
    /// Keeps the word unless it has too many ids.
    void keep(std::string_view other, std::span<const int32_t> its_ids) {
      if (its_ids.size() > kWordTokens) return;
      bytes = static_cast<uint8_t>(other.size());
      tokens = static_cast<uint8_t>(its_ids.size());
      std::copy(other.begin(), other.end(), word.begin());
      std::copy(its_ids.begin(), its_ids.end(), ids.begin());
    }
  };

  /// `word` is not longer than kWordBytes.
  Slot& slot(std::string_view word) { return slots_[hash(word) & (kSlots - 1)]; }

 private:
  static constexpr size_t kSlots = size_t{1} << 16;

  static size_t hash(std::string_view word) {
    constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
    uint64_t state = word.size();
    size_t i = 0;
    for (; i + 8 <= word.size(); i += 8) {
      uint64_t part;
      std::memcpy(&part, word.data() + i, 8);
      state = (state ^ part) * kMultiplier;
      state ^= state >> 29;
    }
    uint64_t rest = 0;
    for (; i < word.size(); ++i) rest = rest << 8 | static_cast<unsigned char>(word[i]);
    state = (state ^ rest) * kMultiplier;
    return state >> 32;
  }

  std::vector<Slot> slots_{kSlots};
};

}  // namespace sememe
