#pragma once
// The tokenizers of published models: byte-level and SentencePiece merges, SentencePiece unigrams, WordPiece; from Hugging Face's
// tokenizer.json, from GGUF or from SentencePiece's own files.
//
// A text goes through up to five steps, each with a file of its own: added tokens are cut out (added_tokens.h), what is between them is
// normalised (normalizer.h) and cut into words (cutter.h), words become ids (segmenter.h), and ids become bytes again (spelling.h).

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
  /// What is done with the names of special tokens, such as "<|im_start|>", that stand in a text.
  enum class Specials {
    kAsText,    ///< they are text as any other: for what was not written here
    kAsTokens,  ///< they become the tokens: for prompts that a chat template made
  };

  /// Reads tokenizer.json, the folder that holds it, GPT-2's vocab.json with merges.txt beside it, BERT's vocab.txt, SentencePiece's
  /// tokenizer.model or llama2.c's tokenizer.bin; and what tokenizer_config.json, generation_config.json and config.json in the same folder say of
  /// the beginning and the end of texts.
  /// @throws Error naming the file and the part that is missing, malformed or not supported
  static Tokenizer load(const std::filesystem::path& path);

  /// The tokenizer inside a GGUF file. @throws Error naming the file and the key that is missing, malformed or not supported
  static Tokenizer of_gguf(const GgufFile& file);

  /// The tokenizer.bin that lies beside a checkpoint of llama2.c. @throws Error naming the file and the token that is malformed
  static Tokenizer of_llama2c(const std::filesystem::path& path);

  /// SentencePiece's own file. @throws Error naming the file and what is malformed or not supported
  static Tokenizer of_sentence_piece(const std::filesystem::path& path);

  /// Learns merges from the texts that `next` yields until it yields nothing. `vocabulary` counts the 256 bytes and
  /// "<|endoftext|>", which gets id 0.
  /// @throws UsageError unless 257 <= vocabulary <= 2^20 + 1; Error if the texts are too small to give so many tokens
  static Tokenizer train(const std::function<std::optional<std::string>()>& next, int64_t vocabulary);

  /// Writes a tokenizer.json.
  void save(const std::filesystem::path& path) const;
  /// Writes what a tokenizer.json cannot say, of the beginning and the end of texts and of chats, as the folder's tokenizer_config.json;
  /// nothing where nothing is known.
  void save_settings(const std::filesystem::path& folder) const;

  /// Ids of `text`, which may hold any bytes, without what the model wants before it. A byte that the vocabulary has no token for, as some
  /// published ones have none for rare control characters, is left out, as PyPI's `tokenizers` does, or becomes the unknown token.
  std::vector<int32_t> encode(std::string_view text, Specials specials = Specials::kAsText) const;
  /// The bytes of the tokens one after another, which need not be valid UTF-8; without the space that encoding put before the text, where it
  /// puts one. @throws Error if there is no such id
  std::string decode(std::span<const int32_t> ids) const;
  /// The bytes of one token. @throws Error if there is no such id
  std::string_view token(int32_t id) const;
  int64_t size() const;
  /// The id of a special or another added token, e.g. "<|endoftext|>".
  std::optional<int32_t> special(std::string_view name) const;

  /// "<s>" or the model's equivalent, if it has one.
  std::optional<int32_t> beginning_of_text() const;
  /// Whether the model was trained to see beginning_of_text() before every text; there is one then.
  bool adds_beginning_of_text() const;
  /// "<|endoftext|>" or the model's equivalent that separates documents: what the file names, unless that ends the turn of a chat and the
  /// vocabulary has one that ends documents. @throws Error if there is none
  int32_t end_of_text() const;
  /// What stands before a text in a context of its own: beginning_of_text() where the model was trained to see it there, else end_of_text().
  int32_t opening() const { return adds_beginning_of_text() ? *beginning_of_text() : end_of_text(); }
  /// What the file puts behind each text, such as BERT's "[SEP]": for encoders, which see whole texts.
  std::optional<int32_t> closing() const;
  /// All tokens after which nothing more is to be generated, each once, in rising order: what the file names, and what is known to end texts
  /// and turns of chats.
  const std::vector<int32_t>& ends() const;
  /// The Jinja template that the file has for chats; empty without one.
  const std::string& chat_template() const;

 private:
  struct Model;
  std::shared_ptr<const Model> model_;
};

}  // namespace sememe
