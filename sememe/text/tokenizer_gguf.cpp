#include "sememe/text/tokenizer_gguf.h"

#include <algorithm>
#include <unordered_map>
#include <variant>

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"
#include "sememe/text/sentence_piece.h"

namespace sememe {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

/// The splitting rules by their names in tokenizer.ggml.pre, as llama.cpp has them.
struct Pre {
  std::string_view name;
  SplittingRule rule;
  bool digits_first = false;  ///< every digit stands alone before the rule is applied
  bool adds_beginning = false;
  bool nfc = false;  ///< the model's own tokenizer.json normalises, so that its vocabulary was learnt of such text
};
constexpr Pre kPres[] = {
    {"gpt-2", SplittingRule::kGpt2},
    {"phi-2", SplittingRule::kGpt2},
    {"mpt", SplittingRule::kGpt2},
    {"olmo", SplittingRule::kGpt2},
    {"jais", SplittingRule::kGpt2},
    {"smollm", SplittingRule::kGpt2, true},
    {"starcoder", SplittingRule::kGpt2, true},
    {"refact", SplittingRule::kGpt2, true},
    {"command-r", SplittingRule::kGpt2, true},
    {"llama-bpe", SplittingRule::kCl100k, false, true},
    {"llama3", SplittingRule::kCl100k, false, true},
    {"llama-v3", SplittingRule::kCl100k, false, true},
    {"dbrx", SplittingRule::kCl100k},
    {"smaug-bpe", SplittingRule::kCl100k},
    {"qwen2", SplittingRule::kQwen2, false, false, true},
    {"deepseek-r1-qwen", SplittingRule::kQwen2, false, false, true},
    {"stablelm2", SplittingRule::kQwen2},
    {"gpt-4o", SplittingRule::kO200k},
    {"llama4", SplittingRule::kO200k},
    {"tekken", SplittingRule::kTekken, false, true},
};

class Reader {
 public:
  explicit Reader(const GgufFile& gguf) : gguf_(gguf), where_(gguf.path().string()) {}
  TokenizerFile read();

 private:
  bool flag(const char* key, bool otherwise) const;
  std::optional<int32_t> id_at(const char* key) const;
  void read_tokens();
  void read_scores();
  void read_byte_level();
  void read_byte_level_merges();
  std::string character_map() const;
  void read_sentence_piece(bool unigram);
  void read_word_piece();
  void add_tokens();
  void read_ends();

  const GgufFile& gguf_;
  std::string where_;
  TokenizerFile file_;
};

TokenizerFile Reader::read() {
  const std::string& kind = gguf_.text("tokenizer.ggml.model");
  read_tokens();
  if (kind == "gpt2") {
    read_byte_level();
  } else if (kind == "llama" || kind == "t5") {
    read_sentence_piece(kind == "t5");
  } else if (kind == "bert") {
    read_word_piece();
  } else {
    fail(
        "{}: tokenizer.ggml.model is \"{}\"; \"gpt2\" (byte-level merges), \"llama\" (SentencePiece merges), \"t5\" (SentencePiece "
        "unigram) and "
        "\"bert\" (WordPiece) are supported",
        where_, shown(kind));
  }
  if (file_.adds_beginning) put_before_texts(file_);
  read_parts(file_, where_);
  read_ends();
  if (gguf_.has_key("tokenizer.chat_template")) file_.chat_template = gguf_.text("tokenizer.chat_template");
  return std::move(file_);
}

bool Reader::flag(const char* key, bool otherwise) const {
  if (!gguf_.has_key(key)) return otherwise;
  const bool* const value = std::get_if<bool>(&gguf_.value(key));
  if (value == nullptr) fail("{}: {} is no bool", where_, key);
  return *value;
}

std::optional<int32_t> Reader::id_at(const char* key) const {
  if (!gguf_.has_key(key)) return std::nullopt;
  const int64_t id = gguf_.integer(key);
  if (id < 0 || id >= static_cast<int64_t>(file_.tokens.size()))
    fail("{}: {} is {}, but there are {} tokens", where_, key, id, file_.tokens.size());
  return static_cast<int32_t>(id);
}

void Reader::read_tokens() {
  const std::vector<std::string>& names = gguf_.texts("tokenizer.ggml.tokens");
  if (names.empty() || static_cast<int64_t>(names.size()) > kMostTokenIds)
    fail("{}: tokenizer.ggml.tokens has {} tokens; from 1 to {} can be", where_, names.size(), kMostTokenIds);
  const auto* const types = std::get_if<std::vector<int32_t>>(&gguf_.value("tokenizer.ggml.token_type"));
  if (types == nullptr || types->size() != names.size())
    fail("{}: tokenizer.ggml.token_type is no array of int32 with one for each of the {} tokens", where_, names.size());
  file_.tokens.reserve(names.size());
  for (size_t id = 0; id < names.size(); ++id) {
    constexpr TokenType kTypes[] = {TokenType::kNormal,      TokenType::kUnknown, TokenType::kControl,
                                    TokenType::kUserDefined, TokenType::kUnused,  TokenType::kByte};
    const int32_t type = (*types)[id];
    if (type < 1 || type > 6) fail("{}: tokenizer.ggml.token_type of token {} is {}; 1 to 6 are known", where_, id, type);
    file_.tokens.push_back({.name = names[id], .type = kTypes[type - 1]});
  }
}

void Reader::read_scores() {
  const auto* const scores = std::get_if<std::vector<float>>(&gguf_.value("tokenizer.ggml.scores"));
  if (scores == nullptr || scores->size() != file_.tokens.size())
    fail("{}: tokenizer.ggml.scores is no array of float32 with one for each of the {} tokens", where_, file_.tokens.size());
  for (size_t id = 0; id < scores->size(); ++id) {
    if (!((*scores)[id] > -1e30F && (*scores)[id] < 1e30F)) fail("{}: tokenizer.ggml.scores of token {} is {}", where_, id, (*scores)[id]);
    file_.tokens[id].score = (*scores)[id];
  }
}

void Reader::add_tokens() {
  for (size_t id = 0; id < file_.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file_.tokens[id];
    const bool special = token.type == TokenType::kControl || token.type == TokenType::kUnknown;
    if (special || token.type == TokenType::kUserDefined)
      file_.added.push_back({.content = token.name, .id = static_cast<int32_t>(id), .special = special, .normalized = false});
  }
}

void Reader::read_byte_level() {
  const std::string rule = gguf_.has_key("tokenizer.ggml.pre") ? gguf_.text("tokenizer.ggml.pre") : "gpt-2";
  const auto* const pre = std::find_if(std::begin(kPres), std::end(kPres), [&](const Pre& known) { return known.name == rule; });
  if (pre == std::end(kPres)) {
    std::string known;
    for (const Pre& each : kPres) known += (known.empty() ? "" : ", ") + std::string(each.name);
    fail("{}: the splitting rule tokenizer.ggml.pre is \"{}\"; known are {}", where_, shown(rule), known);
  }
  file_.document = byte_level_document();
  Json& byte_level = file_.document["pre_tokenizer"];
  Json parts = Json::array();
  if (pre->digits_first) parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (pre->rule != SplittingRule::kGpt2) {
    parts.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", *pattern_of_rule(pre->rule)}}}, {"behavior", "Isolated"}, {"invert", false}});
    byte_level["use_regex"] = false;
  }
  if (!parts.empty()) {
    parts.push_back(byte_level);
    byte_level = {{"type", "Sequence"}, {"pretokenizers", std::move(parts)}};
  }
  if (pre->nfc) file_.document["normalizer"] = {{"type", "NFC"}};
  // Llama 3's words that are tokens stay whole, and so do Tekken's; their files say so and GGUF does not.
  if (pre->adds_beginning) file_.document["model"]["ignore_merges"] = true;
  add_tokens();
  read_byte_level_merges();
  file_.beginning = id_at("tokenizer.ggml.bos_token_id");
  file_.adds_beginning = flag("tokenizer.ggml.add_bos_token", pre->adds_beginning) && file_.beginning.has_value();
}

void Reader::read_byte_level_merges() {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(file_.tokens.size());
  for (size_t id = 0; id < file_.tokens.size(); ++id)
    if (!ids.emplace(file_.tokens[id].name, static_cast<int32_t>(id)).second)
      fail("{}: tokenizer.ggml.tokens has \"{}\" twice", where_, shown(file_.tokens[id].name));
  const std::vector<std::string>& merges = gguf_.texts("tokenizer.ggml.merges");
  file_.merges.reserve(merges.size());
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space >= merge.size() - 1 || merge.find(' ', space + 1) != std::string_view::npos)
      fail("{}: tokenizer.ggml.merges: merge {} is \"{}\", which is not two names with a space between", where_, rank, shown(merge));
    joined.assign(merge.substr(0, space)).append(merge.substr(space + 1));
    const auto id_of = [&](std::string_view name) {
      const auto found = ids.find(name);
      if (found == ids.end()) fail("{}: tokenizer.ggml.merges: merge {} names \"{}\", which is no token", where_, rank, shown(name));
      return found->second;
    };
    file_.merges.push_back({id_of(merge.substr(0, space)), id_of(merge.substr(space + 1)), id_of(joined), static_cast<int32_t>(rank)});
  }
}

/// SentencePiece's compiled normaliser; empty if the file has none.
std::string Reader::character_map() const {
  constexpr const char* kKey = "tokenizer.ggml.precompiled_charsmap";
  if (!gguf_.has_key(kKey)) return "";
  const GgufValue& value = gguf_.value(kKey);
  if (const auto* const bytes = std::get_if<std::vector<uint8_t>>(&value)) return {bytes->begin(), bytes->end()};
  if (const auto* const bytes = std::get_if<std::vector<int8_t>>(&value)) return {bytes->begin(), bytes->end()};
  fail("{}: {} is of type {}, not an array of bytes", where_, kKey, gguf_type_name(value));
}

void Reader::read_sentence_piece(bool unigram) {
  read_scores();
  complete_sentence_piece(file_,
                          {.unigram = unigram,
                           .space_first = flag("tokenizer.ggml.add_space_prefix", true),
                           .trims_spaces = flag("tokenizer.ggml.remove_extra_whitespaces", false),
                           .character_map = character_map()},
                          where_ + ": tokenizer.ggml.tokens");
  file_.beginning = id_at("tokenizer.ggml.bos_token_id");
  file_.adds_beginning = flag("tokenizer.ggml.add_bos_token", !unigram) && file_.beginning.has_value();
}

void Reader::read_word_piece() {
  bool upper_case = false;
  for (TokenizerFile::Token& token : file_.tokens) {
    if (token.type != TokenType::kNormal) continue;
    // GGUF marks what begins a word where BERT marks what continues one.
    const bool begins = token.name.starts_with(kMetaspace);
    token.name = begins ? token.name.substr(kMetaspace.size()) : "##" + token.name;
    upper_case |= std::any_of(token.name.begin(), token.name.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  }
  const auto name_at = [&](const char* key, const char* otherwise) {
    const std::optional<int32_t> id = id_at(key);
    return id ? file_.tokens[*id].name : std::string(otherwise);
  };
  file_.document = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      // Whether texts lose their capitals is not said; a vocabulary that has capitals was learnt of texts that had.
      {"normalizer", {{"type", "BertNormalizer"}, {"clean_text", true}, {"handle_chinese_chars", true}, {"lowercase", !upper_case}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor", nullptr},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", name_at("tokenizer.ggml.unknown_token_id", "[UNK]")},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", 100}}}};
  file_.document["normalizer"]["strip_accents"] = nullptr;
  add_tokens();
  file_.beginning = id_at("tokenizer.ggml.cls_token_id");
  if (!file_.beginning) file_.beginning = id_at("tokenizer.ggml.bos_token_id");
  file_.adds_beginning = flag("tokenizer.ggml.add_bos_token", true) && file_.beginning.has_value();
}

void Reader::read_ends() {
  file_.end = id_at("tokenizer.ggml.eos_token_id");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    if (const std::optional<int32_t> id = id_at(key)) file_.ends.push_back(*id);
}

}  // namespace

TokenizerFile tokenizer_file_of(const GgufFile& file) {
  return Reader(file).read();
}

}  // namespace sememe
