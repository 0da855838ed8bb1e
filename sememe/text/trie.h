#pragma once
// Finds which of many strings a text begins with, in time that depends on the text alone.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sememe {

class Trie {
 public:
  struct Match {
    int32_t id = -1;    ///< -1: none
    size_t length = 0;  ///< bytes
  };

  explicit Trie(size_t expected_bytes = 0);
  /// A string that is given twice keeps its first id. An empty one is left out.
  void insert(std::string_view string, int32_t id);
  bool empty() const { return ids_.size() == 1; }
  /// Whether a string begins with `byte`.
  bool may_begin(unsigned char byte) const { return root_[byte] >= 0; }

  /// Calls `visit(match)` for each string that `text` begins with, shortest first.
  template <class Visit>
  void for_each_prefix(std::string_view text, const Visit& visit) const {
    if (text.empty()) return;
    int32_t node = root_[static_cast<unsigned char>(text[0])];
    for (size_t length = 1; node >= 0; ++length) {
      if (ids_[node] >= 0) visit(Match{ids_[node], length});
      if (length == text.size()) break;
      node = child(node, static_cast<unsigned char>(text[length]));
    }
  }
  Match longest_prefix(std::string_view text) const;

 private:
  struct Edge {
    uint64_t key = kEmpty;  ///< parent << 8 | byte
    int32_t child = -1;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};

  size_t slot_of(uint64_t key) const;
  int32_t child(int32_t parent, unsigned char byte) const;
  int32_t new_child(int32_t parent, unsigned char byte);

  std::array<int32_t, 256> root_;
  std::vector<int32_t> ids_{-1};  ///< by node; -1 where no string ends
  std::vector<Edge> edges_;       ///< open addressing, at most half full; the size is a power of two
};

}  // namespace sememe
