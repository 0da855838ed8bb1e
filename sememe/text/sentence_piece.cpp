#include "sememe/text/sentence_piece.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/formats/base64.h"
#include "sememe/formats/shown.h"
#include "sememe/text/character_pairs.h"
#include "sememe/text/tokenizer_settings.h"

namespace sememe {
namespace {

/// A message of Protocol Buffers: fields of a number and a value, which is a whole number, or bytes.
class Message {
 public:
  struct Field {
    uint64_t number = 0;
    uint64_t value = 0;          ///< of the kinds that have one: as it is, or the bits of a float
    std::string_view bytes = {};
  };

  Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}
  bool empty() const { return bytes_.empty(); }

  Field next() {
    const uint64_t key = varint();
    Field field{.number = key >> 3};
    switch (key & 7) {
      case 0: field.value = varint(); break;
      case 1: std::memcpy(&field.value, take(8).data(), 8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: std::memcpy(&field.value, take(4).data(), 4); break;
      default: fail("{}: is no model of SentencePiece, or is damaged", where_);
    }
    return field;
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) fail("{}: is no model of SentencePiece, or was not copied whole", where_);
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    fail("{}: is no model of SentencePiece, or is damaged", where_);
  }

  std::string_view bytes_;
  const std::string& where_;
};

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path), where_(path.string()) {}

  TokenizerFile read() {
    const MappedFile mapped(path_);
    Message model({reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size()}, where_);
    std::string_view trainer, normalizer;
    while (!model.empty()) {
      const Message::Field field = model.next();
      if (field.number == 1) read_piece(field.bytes);
      if (field.number == 2) trainer = field.bytes;
      if (field.number == 3) normalizer = field.bytes;
    }
    if (file_.tokens.empty()) fail("{}: is no model of SentencePiece, or holds no token", where_);
    read_trainer(trainer);
    read_normalizer(normalizer);
    complete_sentence_piece(file_, settings_, where_);
    if (const std::filesystem::path added = path_.parent_path() / "added_tokens.json"; std::filesystem::exists(added)) read_added(added);
    // As `transformers` does with models of merges, unless a tokenizer_config.json says otherwise.
    file_.adds_beginning = !settings_.unigram && file_.beginning.has_value();
    if (file_.adds_beginning) put_before_texts(file_);
    read_parts(file_, where_);
    if (file_.end) file_.ends.push_back(*file_.end);
    read_settings(file_, path_.parent_path());
    return std::move(file_);
  }

 private:
  void read_piece(std::string_view bytes) {
    const size_t id = file_.tokens.size();
    if (static_cast<int64_t>(id) == kMostTokenIds) fail("{}: has more than {} tokens", where_, kMostTokenIds);
    constexpr TokenType kTypes[] = {TokenType::kNormal,      TokenType::kUnknown, TokenType::kControl,
                                    TokenType::kUserDefined, TokenType::kUnused,  TokenType::kByte};
    TokenizerFile::Token token;
    token.type = TokenType::kNormal;
    Message message(bytes, where_);
    while (!message.empty()) {
      const Message::Field field = message.next();
      if (field.number == 1) token.name = field.bytes;
      if (field.number == 2) {
        float score;
        std::memcpy(&score, &field.value, sizeof score);
        if (!(score > -1e30F && score < 1e30F)) fail("{}: the score of token {} is {}", where_, id, score);
        token.score = score;
      }
      if (field.number == 3) {
        if (field.value < 1 || field.value > 6) fail("{}: the type of token {} is {}; 1 to 6 are known", where_, id, field.value);
        token.type = kTypes[field.value - 1];
      }
    }
    file_.tokens.push_back(std::move(token));
  }

  std::optional<int32_t> id_of(uint64_t value, const char* what) const {
    const auto id = static_cast<int64_t>(value);
    if (id < 0) return std::nullopt;
    if (id >= static_cast<int64_t>(file_.tokens.size())) fail("{}: {} is {}, but there are {} tokens", where_, what, id, file_.tokens.size());
    return static_cast<int32_t>(id);
  }

  void read_trainer(std::string_view bytes) {
    uint64_t kind = 1, beginning = 1, end = 2;
    Message message(bytes, where_);
    while (!message.empty()) {
      const Message::Field field = message.next();
      if (field.number == 3) kind = field.value;
      if (field.number == 24 && field.value != 0) fail("{}: treat_whitespace_as_suffix is not supported", where_);
      if (field.number == 41) beginning = field.value;
      if (field.number == 42) end = field.value;
    }
    if (kind != 1 && kind != 2) fail("{}: model_type is {}; unigram (1) and BPE (2) are supported", where_, kind);
    settings_.unigram = kind == 1;
    file_.beginning = id_of(beginning, "bos_id"), file_.end = id_of(end, "eos_id");
  }

  void read_normalizer(std::string_view bytes) {
    settings_.trims_spaces = true;
    Message message(bytes, where_);
    while (!message.empty()) {
      const Message::Field field = message.next();
      if (field.number == 2) settings_.character_map = field.bytes;
      if (field.number == 3) settings_.space_first = field.value != 0;
      if (field.number == 4) settings_.trims_spaces = field.value != 0;
      if (field.number == 5 && field.value == 0) fail("{}: escape_whitespaces is false, which is not supported", where_);
    }
  }

  void read_added(const std::filesystem::path& path) {
    const Json json = read_json(path);
    if (!json.is_object()) fail("{}: must be an object of tokens and their ids", path.string());
    for (const auto& [name, value] : json.items()) {
      const auto id = json_member<int64_t>(json, name.c_str(), path.string());
      const auto count = static_cast<int64_t>(file_.tokens.size());
      if (id < 0 || id >= kMostTokenIds) fail("{}: \"{}\" has id {}; from 0 to {} can be", path.string(), shown(name), id, kMostTokenIds - 1);
      if (id < count && file_.tokens[id].name != name)
        fail("{}: \"{}\" has id {}, which is that of \"{}\"", path.string(), shown(name), id, shown(file_.tokens[id].name));
      if (id < count) continue;
      file_.tokens.resize(id + 1);
      file_.tokens[id] = {.name = name, .type = TokenType::kControl, .is_of_model = false};
      file_.added.push_back({.content = name, .id = static_cast<int32_t>(id), .special = true});
    }
  }

  std::filesystem::path path_;
  std::string where_;
  TokenizerFile file_;
  SentencePieceSettings settings_;
};

}  // namespace

void complete_sentence_piece(TokenizerFile& file, const SentencePieceSettings& settings, const std::string& where) {
  // SentencePiece's own tokens are short: sixteen characters unless told otherwise. Every way to cut one in two is looked at.
  constexpr size_t kLongest = 1024;
  std::optional<size_t> unknown;
  bool bytes = false;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    if (token.type == TokenType::kNormal && token.name.size() > kLongest)
      fail("{}: token {} is {} bytes long, at most {} are possible", where, id, token.name.size(), kLongest);
    if (token.type == TokenType::kUnknown && !unknown) unknown = id;
    bytes |= token.type == TokenType::kByte;
    const bool special = token.type == TokenType::kControl || token.type == TokenType::kUnknown;
    // A unigram model weighs user-defined tokens by itself.
    if (special || (token.type == TokenType::kUserDefined && !settings.unigram))
      file.added.push_back({.content = token.name, .id = static_cast<int32_t>(id), .special = special, .normalized = !special});
  }
  file.document = sentence_piece_document(settings.space_first);
  Json steps = Json::array();
  if (!settings.character_map.empty())
    steps.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(settings.character_map)}, {"match", "longest"}});
  if (settings.trims_spaces) {
    steps.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
    steps.push_back({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}});
  }
  Json& all_steps = file.document["normalizer"]["normalizers"];
  all_steps.insert(all_steps.begin(), steps.begin(), steps.end());
  Json model = {{"type", settings.unigram ? "Unigram" : "BPE"}, {"byte_fallback", bytes}};
  file.single_precision = true;
  if (settings.unigram) {
    model["unk_id"] = unknown ? Json(*unknown) : Json(nullptr);
  } else {
    model["unk_token"] = unknown ? Json(file.tokens[*unknown].name) : Json(nullptr);
    model["fuse_unk"] = true;
    file.merges = merges_of_scores(file.tokens);
  }
  file.document["model"] = std::move(model);
}

TokenizerFile tokenizer_file_of_sentence_piece(const std::filesystem::path& path) { return Reader(path).read(); }

}  // namespace sememe
