#pragma once
// A corpus for training: one file of token ids, documents one after another with end-of-text before each, read in windows of
// the context's length at random places. Windows hold several documents or parts of one; end-of-text tells the network where.

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "sememe/base/files.h"
#include "sememe/data/corpus.h"
#include "sememe/network/network.h"
#include "sememe/text/tokenizer.h"

namespace sememe {

/// Writes the ids of all documents as little-endian int32. @returns their number
int64_t pack_tokens(Corpus& corpus, const Tokenizer& tokenizer, const std::filesystem::path& path);

class PackedTokens {
 public:
  /// @throws Error if the file holds fewer than two contexts
  PackedTokens(const std::filesystem::path& path, int64_t context, uint64_t seed);

  int64_t size() const { return static_cast<int64_t>(ids_.size()); }
  std::span<const int32_t> ids() const { return ids_; }
  /// Batch number `index` of `rows` windows [rows, context]. An epoch takes each window once, in an order of its own, from a shifted
  /// beginning; the batch depends on nothing but the file, the seed and the index.
  Batch batch(int64_t index, int64_t rows);

 private:
  MappedFile file_;
  std::span<const int32_t> ids_;
  int64_t context_, windows_;
  uint64_t seed_;
  int64_t epoch_ = -1, shift_ = 0;
  std::vector<int64_t> order_;
};

}  // namespace sememe
