#pragma once
// How a word becomes tokens: one class for each kind of model that tokenizers hold.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sememe {

class Segmenter {
 public:
  virtual ~Segmenter() = default;
  /// Appends the ids of `word`, which may hold any bytes.
  virtual void segment(std::string_view word, std::vector<int32_t>& ids) const = 0;
  /// Bytes of the longest prefix of `word` that was found to be segmented alike on its own: what is short can be remembered.
  virtual size_t independent_prefix(std::string_view word) const { return word.size(); }
};

}  // namespace sememe
