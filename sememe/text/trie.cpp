#include "sememe/text/trie.h"

#include <bit>

namespace sememe {

Trie::Trie(size_t expected_bytes) : edges_(std::bit_ceil(2 * expected_bytes + 16)) {
  root_.fill(-1);
}

size_t Trie::slot_of(uint64_t key) const {
  const size_t mask = edges_.size() - 1;
  // Fibonacci hashing: the upper bits of the product depend on parent and byte.
  size_t index = (key * 0x9E3779B97F4A7C15u) >> 24 & mask;
  while (edges_[index].key != key && edges_[index].key != kEmpty) index = (index + 1) & mask;
  return index;
}

int32_t Trie::child(int32_t parent, unsigned char byte) const {
  return edges_[slot_of(uint64_t{static_cast<uint32_t>(parent)} << 8 | byte)].child;
}

int32_t Trie::new_child(int32_t parent, unsigned char byte) {
  const auto node = static_cast<int32_t>(ids_.size());
  if (parent == 0) {
    root_[byte] = node;
  } else {
    if (2 * ids_.size() > edges_.size()) {
      std::vector<Edge> old(2 * edges_.size());
      old.swap(edges_);
      for (const Edge& edge : old)
        if (edge.key != kEmpty) edges_[slot_of(edge.key)] = edge;
    }
    const uint64_t key = uint64_t{static_cast<uint32_t>(parent)} << 8 | byte;
    edges_[slot_of(key)] = {key, node};
  }
  ids_.push_back(-1);
  return node;
}

void Trie::insert(std::string_view string, int32_t id) {
  if (string.empty()) return;
  int32_t node = 0;
  for (const char character : string) {
    const auto byte = static_cast<unsigned char>(character);
    const int32_t next = node == 0 ? root_[byte] : child(node, byte);
    node = next >= 0 ? next : new_child(node, byte);
  }
  if (ids_[node] < 0) ids_[node] = id;
}

Trie::Match Trie::longest_prefix(std::string_view text) const {
  Match longest;
  for_each_prefix(text, [&](const Match& match) { longest = match; });
  return longest;
}

}  // namespace sememe
