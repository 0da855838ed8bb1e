#include "sememe/text/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "sememe/base/error.h"
#include "sememe/base/json.h"
#include "sememe/text/byte_pairs.h"
#include "sememe/text/character_pairs.h"
#include "sememe/text/merge_trainer.h"
#include "sememe/text/sentence_piece.h"
#include "sememe/text/tokenizer_file.h"
#include "sememe/text/tokenizer_gguf.h"
#include "sememe/text/tokenizer_json.h"
#include "sememe/text/tokenizer_llama2c.h"
#include "sememe/text/tokenizer_settings.h"
#include "sememe/text/unigram.h"
#include "sememe/text/word_cache.h"
#include "sememe/text/word_piece.h"

namespace sememe {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";

// Known names, the first that a vocabulary has going first.
constexpr std::string_view kEndsOfTexts[] = {kEndOfText, "<|end_of_text|>", "</s>", "<eos>", "[EOS]"};
constexpr std::string_view kEndsOfTurns[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>",
                                             "<turn|>",    "<|end|>",    "<|return|>", "<|eot|>"};

std::vector<std::string> spellings_of(const TokenizerFile& file) {
  std::vector<std::string> spellings;
  spellings.reserve(file.tokens.size());
  for (const TokenizerFile::Token& token : file.tokens)
    spellings.push_back(token.is_of_model ? file.spelling.spell(token.name) : token.name);
  return spellings;
}

std::unique_ptr<const Segmenter> segmenter_of(const TokenizerFile& file, const std::vector<std::string>& spellings) {
  if (file.model == TokenModel::kUnigram) return std::make_unique<Unigram>(file);
  if (file.model == TokenModel::kWordPiece) return std::make_unique<WordPiece>(file);
  if (file.cutter.byte_level()) return std::make_unique<BytePairs>(file, spellings);
  return std::make_unique<CharacterPairs>(file);
}

/// Those that are sought in the text as it came, or those that are sought in the normalised text.
AddedTokens added_tokens(const TokenizerFile& file, bool normalized, bool specials) {
  std::vector<AddedToken> tokens;
  for (AddedToken token : file.added) {
    if (token.normalized != normalized || (token.special && !specials)) continue;
    if (normalized) token.content = file.normalizer.normalize_token(token.content);
    tokens.push_back(std::move(token));
  }
  return AddedTokens(tokens);
}

/// What one call of encode works with.
struct Work {
  std::unique_ptr<WordCache> cache;
  std::vector<int32_t> ids;
  std::vector<int32_t> ids_of_word;
};

}  // namespace

struct Tokenizer::Model {
  TokenizerFile file;
  std::vector<std::string> spellings;  ///< by id
  std::unique_ptr<const Segmenter> segmenter;
  AddedTokens raw[2], normalized[2];  ///< without and with the special ones
  std::unordered_map<std::string_view, int32_t> specials;
  std::optional<int32_t> end_of_text;
  std::vector<int32_t> ends;

  // Each call of encode takes a cache and gives it back, so that threads share warm caches without waiting.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<WordCache>> caches;

  explicit Model(TokenizerFile&& source);
  void find_ends();
  void encode_word(std::string_view word, Work& work) const;
  void encode_short_word(std::string_view word, Work& work) const;
  void segment(std::string_view word, Work& work) const;
  void encode_piece(std::string_view piece, bool is_start, const AddedTokens& added, Work& work) const;
  std::unique_ptr<WordCache> take_cache() const;
  void give_back(std::unique_ptr<WordCache> cache) const;
};

Tokenizer::Model::Model(TokenizerFile&& source)
    : file(std::move(source)), spellings(spellings_of(file)), segmenter(segmenter_of(file, spellings)) {
  for (const bool with_specials : {false, true}) {
    raw[with_specials] = added_tokens(file, false, with_specials);
    normalized[with_specials] = added_tokens(file, true, with_specials);
  }
  for (const AddedToken& token : file.added) specials.emplace(token.content, token.id);
  find_ends();
}

void Tokenizer::Model::find_ends() {
  // Gemma has an "</s>" that is HTML's: only special ones count.
  const auto id_of = [&](std::string_view name) -> std::optional<int32_t> {
    const auto found = specials.find(name);
    return found == specials.end() || file.tokens[found->second].type != TokenType::kControl ? std::nullopt : std::optional(found->second);
  };
  ends = file.ends;
  std::optional<int32_t> of_texts, of_turns;
  for (const std::string_view name : kEndsOfTexts) {
    const std::optional<int32_t> id = id_of(name);
    if (id) ends.push_back(*id);
    if (!of_texts) of_texts = id;
  }
  bool file_ends_turns = false;
  for (const std::string_view name : kEndsOfTurns) {
    const std::optional<int32_t> id = id_of(name);
    if (id) ends.push_back(*id);
    if (!of_turns) of_turns = id;
    file_ends_turns |= id && id == file.end;
  }
  end_of_text = file.end && !(file_ends_turns && of_texts) ? file.end : of_texts ? of_texts : of_turns;
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
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

void Tokenizer::Model::encode_word(std::string_view word, Work& work) const {
  while (word.size() > WordCache::kWordBytes) {
    const std::string_view part = word.substr(0, segmenter->independent_prefix(word));
    word.remove_prefix(part.size());
    if (part.size() <= WordCache::kWordBytes) {
      encode_short_word(part, work);
    } else {
      segment(part, work);
    }
  }
  if (!word.empty()) encode_short_word(word, work);
}

void Tokenizer::Model::encode_short_word(std::string_view word, Work& work) const {
  WordCache::Slot& slot = work.cache->slot(word);
  if (slot.holds(word)) {
    work.ids.insert(work.ids.end(), slot.ids.begin(), slot.ids.begin() + slot.tokens);
  } else {
    segment(word, work);
    slot.keep(word, work.ids_of_word);
  }
}

void Tokenizer::Model::segment(std::string_view word, Work& work) const {
  work.ids_of_word.clear();
  segmenter->segment(word, work.ids_of_word);
  work.ids.insert(work.ids.end(), work.ids_of_word.begin(), work.ids_of_word.end());
}

void Tokenizer::Model::encode_piece(std::string_view piece, bool is_start, const AddedTokens& added, Work& work) const {
  std::string changed;
  if (!file.normalizer.empty()) piece = changed = file.normalizer.normalize(piece);
  const auto encode_words = [&](std::string_view text, bool starts) {
    file.cutter.cut(text, starts, [&](std::string_view word) { encode_word(word, work); });
  };
  if (added.empty()) return encode_words(piece, is_start);
  added.cut(piece, [&](std::string_view part, int32_t id) {
    if (id >= 0) {
      work.ids.push_back(id);
    } else {
      encode_words(part, is_start && part.data() == piece.data());
    }
  });
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    for (const char* const name : {"tokenizer.json", "vocab.txt", "tokenizer.model"})
      if (std::filesystem::exists(path / name)) return load(path / name);
    return load(path / "tokenizer.json");
  }
  if (path.extension() == ".bin") return of_llama2c(path);
  if (path.extension() == ".model") return of_sentence_piece(path);
  Tokenizer tokenizer;
  tokenizer.model_ = std::make_shared<const Model>(load_tokenizer_file(path));
  return tokenizer;
}

Tokenizer Tokenizer::of_gguf(const GgufFile& file) {
  Tokenizer tokenizer;
  tokenizer.model_ = std::make_shared<const Model>(tokenizer_file_of(file));
  return tokenizer;
}

Tokenizer Tokenizer::of_llama2c(const std::filesystem::path& path) {
  Tokenizer tokenizer;
  tokenizer.model_ = std::make_shared<const Model>(tokenizer_file_of_llama2c(path));
  return tokenizer;
}

Tokenizer Tokenizer::of_sentence_piece(const std::filesystem::path& path) {
  Tokenizer tokenizer;
  tokenizer.model_ = std::make_shared<const Model>(tokenizer_file_of_sentence_piece(path));
  return tokenizer;
}

Tokenizer Tokenizer::train(const std::function<std::optional<std::string>()>& next, int64_t vocabulary) {
  Tokenizer tokenizer;
  const LearnedMerges learned = learn_merges(next, vocabulary - 1);
  tokenizer.model_ = std::make_shared<const Model>(make_tokenizer_file(learned, kEndOfText));
  return tokenizer;
}

void Tokenizer::save(const std::filesystem::path& path) const {
  write_json(path, tokenizer_json(model_->file));
}

void Tokenizer::save_settings(const std::filesystem::path& folder) const {
  if (const Json settings = settings_json(model_->file); !settings.empty()) write_json(folder / "tokenizer_config.json", settings);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, Specials specials) const {
  Work work{.cache = model_->take_cache(), .ids = {}, .ids_of_word = {}};
  work.ids.reserve(text.size() / 4 + 1);
  const bool with_specials = specials == Specials::kAsTokens;
  const AddedTokens& raw = model_->raw[with_specials];
  const AddedTokens& normalized = model_->normalized[with_specials];
  if (raw.empty()) {
    model_->encode_piece(text, true, normalized, work);
  } else {
    raw.cut(text, [&](std::string_view piece, int32_t id) {
      if (id >= 0) {
        work.ids.push_back(id);
      } else {
        model_->encode_piece(piece, piece.data() == text.data(), normalized, work);
      }
    });
  }
  model_->give_back(std::move(work.cache));
  return std::move(work.ids);
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += token(id);
  if (model_->file.spelling.strips_first_space() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::string_view Tokenizer::token(int32_t id) const {
  if (id < 0 || id >= size() || model_->file.tokens[id].type == TokenType::kAbsent)
    fail("token {} does not exist: the tokenizer has ids 0 to {}", id, size() - 1);
  return model_->spellings[id];
}

int64_t Tokenizer::size() const {
  return static_cast<int64_t>(model_->file.tokens.size());
}

std::optional<int32_t> Tokenizer::special(std::string_view name) const {
  const auto found = model_->specials.find(name);
  if (found == model_->specials.end()) return std::nullopt;
  return found->second;
}

std::optional<int32_t> Tokenizer::beginning_of_text() const {
  return model_->file.beginning;
}

bool Tokenizer::adds_beginning_of_text() const {
  return model_->file.adds_beginning;
}

std::optional<int32_t> Tokenizer::closing() const {
  return model_->file.closing;
}

int32_t Tokenizer::end_of_text() const {
  if (model_->end_of_text) return *model_->end_of_text;
  fail(
      "the tokenizer has no token that ends a text: looked for <|endoftext|>, <|end_of_text|>, </s>, <eos>, [EOS] and ends of turns such "
      "as <|im_end|>");
}

const std::vector<int32_t>& Tokenizer::ends() const {
  return model_->ends;
}

const std::string& Tokenizer::chat_template() const {
  return model_->file.chat_template;
}

}  // namespace sememe
