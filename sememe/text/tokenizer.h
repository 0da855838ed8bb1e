#pragma once
// Byte-level byte-pair encoding with GPT-2's splitting rule, in Hugging Face's tokenizer.json.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sememe {

class GgufFile;

class Tokenizer {
 public:
  /// Reads tokenizer.json (byte-level BPE), the folder that holds it, or GPT-2's vocab.json with merges.txt beside it.
  /// @throws Error naming the file and the part that is missing, malformed or not supported
  static Tokenizer load(const std::filesystem::path& path);

  /// The tokenizer inside a GGUF file. @throws Error naming the file and the key that is missing, malformed or not supported
  static Tokenizer of_gguf(const GgufFile& file);

  /// Learns merges from the texts that `next` yields until it yields nothing. `vocabulary` counts the 256 bytes and
  /// "<|endoftext|>", which gets id 0.
  /// @throws UsageError unless 257 <= vocabulary <= 2^20 + 1; Error if the texts are too small to give so many tokens
  static Tokenizer train(const std::function<std::optional<std::string>()>& next, int64_t vocabulary);

  void save(const std::filesystem::path& path) const;

  /// Ids of `text`, which may hold any bytes; special tokens in it are not recognised. A byte that the vocabulary has no token for, as some
  /// published ones have none for rare control characters, is left out, as PyPI's `tokenizers` does.
  std::vector<int32_t> encode(std::string_view text) const;
  /// The bytes of the tokens one after another, which need not be valid UTF-8. @throws Error if there is no such id
  std::string decode(std::span<const int32_t> ids) const;
  /// The bytes of one token. @throws Error if there is no such id
  std::string_view token(int32_t id) const;
  int64_t size() const;
  /// The id of a special token, e.g. "<|endoftext|>".
  std::optional<int32_t> special(std::string_view name) const;
  /// "<|endoftext|>" or the model's equivalent that separates documents. @throws Error if there is none
  int32_t end_of_text() const;

 private:
  struct Model;
  std::shared_ptr<const Model> model_;
};

}  // namespace sememe
