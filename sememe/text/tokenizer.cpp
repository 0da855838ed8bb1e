#include "sememe/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/formats/gguf.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/merge_trainer.h"
#include "sememe/text/merges.h"
#include "sememe/text/splitter.h"
#include "sememe/text/tokenizer_file.h"

namespace sememe {
namespace {

/// Ids of words seen before: direct-mapped, so that its size is fixed whatever the text. Long words are rare: not kept.
class WordCache {
 public:
  static constexpr size_t kWordBytes = 24;
  static constexpr size_t kWordTokens = 8;

  struct Slot {
    std::array<char, kWordBytes> word{};
    uint8_t bytes = 0;  ///< 0: free
    uint8_t tokens = 0;
    std::array<int32_t, kWordTokens> ids{};
    bool holds(std::string_view other) const {
      return bytes == other.size() && std::memcmp(word.data(), other.data(), bytes) == 0;
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

constexpr std::string_view kEndOfText = "<|endoftext|>";

}  // namespace

struct Tokenizer::Model {
  TokenizerFile file;
  Merges merges;
  std::array<int32_t, 256> byte_ids{};
  std::unordered_map<std::string_view, int32_t> ids_of_words;  ///< only filled where whole words go before merges

  // Each call of encode takes a cache and gives it back, so that threads share warm caches without waiting.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<WordCache>> caches;

  explicit Model(TokenizerFile&& source);
  void encode_word(std::string_view word, std::vector<int32_t>& merged) const;
  void encode_words(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const;
  void encode_piece(std::string_view piece, WordCache& cache, std::vector<int32_t>& ids) const;
  void encode_text(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const;
  std::unique_ptr<WordCache> take_cache() const;
  void give_back(std::unique_ptr<WordCache> cache) const;
};

Tokenizer::Model::Model(TokenizerFile&& source) : file(std::move(source)), merges(file.merges.size()) {
  byte_ids.fill(-1);
  for (size_t rank = 0; rank < file.merges.size(); ++rank) {
    const auto& [left, right, merged] = file.merges[rank];
    merges.insert(left, right, {static_cast<int32_t>(rank), merged});
  }
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    if (!token.present || !token.byte_level) continue;
    if (token.bytes.size() == 1) byte_ids[static_cast<unsigned char>(token.bytes[0])] = static_cast<int32_t>(id);
    if (file.ignore_merges) ids_of_words.emplace(token.bytes, static_cast<int32_t>(id));
  }
}

std::unique_ptr<WordCache> Tokenizer::Model::take_cache() const {
  const std::lock_guard lock(mutex);
  if (caches.empty()) return std::make_unique<WordCache>();
  std::unique_ptr<WordCache> cache = std::move(caches.back());
  caches.pop_back();
  return cache;
}

void Tokenizer::Model::give_back(std::unique_ptr<WordCache> cache) const {
  const std::lock_guard lock(mutex);
  caches.push_back(std::move(cache));
}

void Tokenizer::Model::encode_word(std::string_view word, std::vector<int32_t>& merged) const {
  merged.clear();
  if (file.ignore_merges) {
    if (const auto found = ids_of_words.find(word); found != ids_of_words.end()) {
      merged.push_back(found->second);
      return;
    }
  }
  for (const unsigned char byte : word)
    if (byte_ids[byte] >= 0) merged.push_back(byte_ids[byte]);
  merges.apply(merged);
}

void Tokenizer::Model::encode_words(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const {
  std::vector<int32_t> merged;
  const auto encode_one = [&](std::string_view word) {
    const bool may_keep = word.size() <= WordCache::kWordBytes;
    WordCache::Slot* const slot = may_keep ? &cache.slot(word) : nullptr;
    if (slot && slot->holds(word)) {
      ids.insert(ids.end(), slot->ids.begin(), slot->ids.begin() + slot->tokens);
      return;
    }
    encode_word(word, merged);
    ids.insert(ids.end(), merged.begin(), merged.end());
    if (!slot || merged.size() > WordCache::kWordTokens) return;
    slot->bytes = static_cast<uint8_t>(word.size());
    slot->tokens = static_cast<uint8_t>(merged.size());
    std::copy(word.begin(), word.end(), slot->word.begin());
    std::copy(merged.begin(), merged.end(), slot->ids.begin());
  };
  if (file.split_words) {
    for_each_word(text, encode_one);
  } else if (!text.empty()) {
    encode_one(text);
  }
}

void Tokenizer::Model::encode_piece(std::string_view piece, WordCache& cache, std::vector<int32_t>& ids) const {
  if (file.add_prefix_space && !piece.empty() && piece[0] != ' ') {
    encode_words(" " + std::string(piece), cache, ids);
  } else {
    encode_words(piece, cache, ids);
  }
}

void Tokenizer::Model::encode_text(std::string_view text, WordCache& cache, std::vector<int32_t>& ids) const {
  if (file.digits == TokenizerFile::Digits::kTogether) return encode_piece(text, cache, ids);
  while (!text.empty()) {
    const size_t length = first_digit_piece(text, file.digits == TokenizerFile::Digits::kEach);
    encode_piece(text.substr(0, length), cache, ids);
    text.remove_prefix(length);
  }
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  Tokenizer tokenizer;
  tokenizer.model_ = std::make_shared<const Model>(load_tokenizer_file(path));
  return tokenizer;
}

Tokenizer Tokenizer::of_gguf(const GgufFile& file) {
  Tokenizer tokenizer;
  tokenizer.model_ = std::make_shared<const Model>(tokenizer_file_of(file));
  return tokenizer;
}

Tokenizer Tokenizer::train(const std::function<std::optional<std::string>()>& next, int64_t vocabulary) {
  Tokenizer tokenizer;
  const LearnedMerges learned = learn_merges(next, vocabulary - 1);
  tokenizer.model_ = std::make_shared<const Model>(make_tokenizer_file(learned, kEndOfText));
  return tokenizer;
}

void Tokenizer::save(const std::filesystem::path& path) const {
  write_json(path, model_->file.document);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 1);
  std::unique_ptr<WordCache> cache = model_->take_cache();
  model_->encode_text(text, *cache, ids);
  model_->give_back(std::move(cache));
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += token(id);
  return text;
}

std::string_view Tokenizer::token(int32_t id) const {
  const auto& tokens = model_->file.tokens;
  if (id < 0 || id >= size() || !tokens[id].present)
    fail("token {} does not exist: the tokenizer has ids 0 to {}", id, size() - 1);
  return tokens[id].bytes;
}

int64_t Tokenizer::size() const {
  return static_cast<int64_t>(model_->file.tokens.size());
}

std::optional<int32_t> Tokenizer::special(std::string_view name) const {
  const auto found = model_->file.specials.find(std::string(name));
  if (found == model_->file.specials.end()) return std::nullopt;
  return found->second;
}

int32_t Tokenizer::end_of_text() const {
  constexpr std::string_view kNames[] = {kEndOfText, "<|end_of_text|>", "</s>", "<|im_end|>", "<eos>"};
  for (const std::string_view name : kNames)
    if (const std::optional<int32_t> id = special(name)) return *id;
  fail(
      "the tokenizer has no token that ends a text: looked for <|endoftext|>, <|end_of_text|>, </s>, <|im_end|>, "
      "<eos>");
}

}  // namespace sememe
