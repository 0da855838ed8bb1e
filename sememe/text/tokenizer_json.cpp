#include "sememe/text/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/formats/shown.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/tokenizer_settings.h"

namespace sememe {
namespace {

/// Moves one document's arrays into a TokenizerFile; `where_` begins every message.
class Reader {
 public:
  Reader(std::string where, Json document) : where_(std::move(where)) { file_.document = std::move(document); }
  TokenizerFile read();

 private:
  std::string part(std::string_view name) const { return where_ + ": " + std::string(name); }
  void read_vocabulary(const Json& vocabulary);
  void read_scores(const Json& vocabulary);
  void put(const Json& id, TokenizerFile::Token token, std::string_view where);
  void read_merges(const Json& merges);
  std::pair<std::string, std::string> split_merge(const Json& merge, size_t rank) const;
  int32_t id_of(const std::string& name, size_t rank) const;
  void read_added_tokens(const Json& added);

  std::string where_;
  TokenizerFile file_;
  std::unordered_map<std::string, int32_t> ids_;  ///< by name as written in the file
};

/// Takes the member `key` out of `object`; null if there is none.
Json taken(Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return nullptr;
  Json value = std::move(*found);
  object.erase(found);
  return value;
}

TokenizerFile Reader::read() {
  Json& document = file_.document;
  if (!document.is_object()) fail("{}: is not a tokenizer: the JSON value is no object", where_);
  const auto model = document.find("model");
  if (model == document.end() || !model->is_object()) fail("{}: model is missing", where_);
  const Json vocabulary = taken(*model, "vocab"), merges = taken(*model, "merges"), added = taken(document, "added_tokens");
  const auto type = json_member_or<std::string>(*model, "type", "BPE", part("model"));
  if (type == "Unigram") {
    if (!vocabulary.is_array()) fail("{}: model: vocab is missing or not an array", where_);
    read_scores(vocabulary);
  } else {
    if (!vocabulary.is_object()) fail("{}: model: vocab is missing or not an object", where_);
    read_vocabulary(vocabulary);
  }
  if (type == "BPE") {
    if (!merges.is_array()) fail("{}: model: merges is missing or not an array", where_);
    read_merges(merges);
  }
  read_added_tokens(added);
  read_parts(file_, where_);
  return std::move(file_);
}

void Reader::read_vocabulary(const Json& vocabulary) {
  const std::string where = part("model: vocab");
  ids_.reserve(vocabulary.size());
  for (const auto& [name, id] : vocabulary.items()) put(id, {.name = name, .type = TokenType::kNormal}, where);
}

void Reader::read_scores(const Json& vocabulary) {
  const std::string where = part("model: vocab");
  for (size_t id = 0; id < vocabulary.size(); ++id) {
    const Json& entry = vocabulary[id];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number())
      fail("{}: entry {} is no pair of a name and a score", where, id);
    put(id, {.name = entry[0].get<std::string>(), .type = TokenType::kNormal, .score = entry[1].get<double>()}, where);
  }
}

void Reader::put(const Json& number, TokenizerFile::Token token, std::string_view where) {
  if (!number.is_number_integer())
    fail("{}: the id of \"{}\" is not an integer: {}", where, shown(token.name), number.dump().substr(0, 40));
  const auto id = number.get<int64_t>();
  if (id < 0 || id >= kMostTokenIds)
    fail("{}: \"{}\" has id {}, ids must be from 0 to {}", where, shown(token.name), id, kMostTokenIds - 1);
  if (static_cast<size_t>(id) >= file_.tokens.size()) file_.tokens.resize(id + 1);
  if (file_.tokens[id].type != TokenType::kAbsent) fail("{}: \"{}\" has id {}, which another token has too", where, shown(token.name), id);
  ids_.emplace(token.name, static_cast<int32_t>(id));
  file_.tokens[id] = std::move(token);
}

std::pair<std::string, std::string> Reader::split_merge(const Json& merge, size_t rank) const {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && space > 0 && space + 1 < text.size() && text.find(' ', space + 1) == text.npos)
      return {text.substr(0, space), text.substr(space + 1)};
  }
  fail("{}: merge {} is {}, which is neither \"left right\" nor [\"left\", \"right\"]", part("model: merges"), rank,
       merge.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
}

int32_t Reader::id_of(const std::string& name, size_t rank) const {
  const auto found = ids_.find(name);
  if (found == ids_.end()) fail("{}: merge {} names \"{}\", which vocab does not have", part("model: merges"), rank, shown(name));
  return found->second;
}

void Reader::read_merges(const Json& merges) {
  file_.merges.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = split_merge(merges[rank], rank);
    file_.merges.push_back({id_of(left, rank), id_of(right, rank), id_of(left + right, rank), static_cast<int32_t>(rank)});
  }
}

void Reader::read_added_tokens(const Json& added) {
  if (added.is_null()) return;
  const std::string where = part("added_tokens");
  if (!added.is_array()) fail("{}: is not an array", where);
  for (const Json& entry : added) {
    AddedToken token;
    token.content = json_member<std::string>(entry, "content", where);
    token.special = json_member_or<bool>(entry, "special", true, where);
    token.normalized = json_member_or<bool>(entry, "normalized", !token.special, where);
    token.left_strip = json_member_or<bool>(entry, "lstrip", false, where);
    token.right_strip = json_member_or<bool>(entry, "rstrip", false, where);
    if (json_member_or<bool>(entry, "single_word", false, where))
      fail("{}: \"{}\" is single_word, which is not supported", where, shown(token.content));
    const Json number = json_member<Json>(entry, "id", where);
    const auto known = ids_.find(token.content);
    if (known == ids_.end()) {
      put(number, {.name = token.content, .type = TokenType::kControl, .is_of_model = false}, where);
      token.id = ids_.at(token.content);
    } else {
      if (!number.is_number_integer()) fail("{}: the id of \"{}\" is not an integer", where, shown(token.content));
      token.id = known->second;
      if (number.get<int64_t>() != token.id)
        fail("{}: \"{}\" has id {} here and {} in the vocabulary", where, shown(token.content), number.get<int64_t>(), token.id);
    }
    if (token.special) file_.tokens[token.id].type = TokenType::kControl;
    file_.added.push_back(std::move(token));
  }
}

Json special_token(std::string_view content, int64_t id) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

/// GPT-2's two files as one document.
Json document_of_old_files(const std::filesystem::path& vocabulary_path) {
  const std::filesystem::path merges_path = vocabulary_path.parent_path() / "merges.txt";
  Json document = byte_level_document();
  Json vocabulary = read_json(vocabulary_path);
  if (!vocabulary.is_object()) fail("{}: is not a vocabulary: the JSON value is no object", vocabulary_path.string());
  if (const auto end = vocabulary.find("<|endoftext|>"); end != vocabulary.end() && end->is_number_integer())
    document["added_tokens"].push_back(special_token("<|endoftext|>", end->get<int64_t>()));
  document["model"]["vocab"] = std::move(vocabulary);
  document["model"]["merges"] = Json::array();
  const std::string text = read_file(merges_path);
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !line.starts_with("#version")) document["model"]["merges"].push_back(std::move(line));
    start = end + 1;
  }
  return document;
}

/// BERT's vocabulary, a token a line, as one document with what tokenizer_config.json beside it says of letters.
Json document_of_word_pieces(const std::filesystem::path& path) {
  const std::filesystem::path settings_path = path.parent_path() / "tokenizer_config.json";
  const Json settings = std::filesystem::is_regular_file(settings_path) ? read_json(settings_path) : Json::object();
  const std::string where = settings_path.string(), text = read_file(path);
  Json vocabulary = Json::object();
  int64_t id = 0;
  for (size_t start = 0; start < text.size(); ++id) {
    const size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    if (line.ends_with('\r')) line.pop_back();
    if (!vocabulary.emplace(line, id).second) fail("{}:{}: \"{}\" is there twice", path.string(), id + 1, shown(line));
    start = end + 1;
  }
  Json added = Json::array();
  for (const char* const name : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    if (!vocabulary.contains(name)) fail("{}: has no {}; is it BERT's vocabulary?", path.string(), name);
    added.push_back(special_token(name, vocabulary[name].get<int64_t>()));
  }
  const Json strip_accents = settings.is_object() && settings.contains("strip_accents") ? settings["strip_accents"] : Json();
  return {{"version", "1.0"},
          {"added_tokens", added},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", json_member_or<bool>(settings, "tokenize_chinese_chars", true, where)},
            {"strip_accents", strip_accents},
            {"lowercase", json_member_or<bool>(settings, "do_lower_case", true, where)}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor",
           {{"type", "BertProcessing"}, {"sep", {"[SEP]", vocabulary["[SEP]"]}}, {"cls", {"[CLS]", vocabulary["[CLS]"]}}}},
          {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", std::move(vocabulary)}}}};
}

Json merges_json(const TokenizerFile& file) {
  // Written as one string with a space between, which every version of `tokenizers` reads, unless a name has spaces itself.
  const auto has_space = [&](const TokenizerFile::Merge& merge) { return file.tokens[merge.merged].name.find(' ') != std::string::npos; };
  const bool as_pairs = std::any_of(file.merges.begin(), file.merges.end(), has_space);
  Json merges = Json::array();
  for (const TokenizerFile::Merge& merge : file.merges) {
    const std::string &left = file.tokens[merge.left].name, &right = file.tokens[merge.right].name;
    if (as_pairs) {
      merges.push_back({left, right});
    } else {
      merges.push_back(left + " " + right);
    }
  }
  return merges;
}

}  // namespace

Json byte_level_document() {
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false}}}};
}

Json tokenizer_json(const TokenizerFile& file) {
  Json document = file.document;
  Json& model = document["model"];
  Json vocabulary = file.model == TokenModel::kUnigram ? Json::array() : Json::object();
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    if (token.type == TokenType::kAbsent || !token.is_of_model) continue;
    if (file.model == TokenModel::kUnigram) {
      vocabulary.push_back({token.name, token.score});
    } else {
      vocabulary[token.name] = id;
    }
  }
  model["vocab"] = std::move(vocabulary);
  if (file.model == TokenModel::kMerges) model["merges"] = merges_json(file);
  Json added = Json::array();
  for (const AddedToken& token : file.added)
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", token.left_strip},
                     {"rstrip", token.right_strip},
                     {"normalized", token.normalized},
                     {"special", token.special}});
  document["added_tokens"] = std::move(added);
  return document;
}

Json sentence_piece_document(bool space_first) {
  constexpr const char* kMetaspace = "\xE2\x96\x81";
  Json steps = Json::array();
  if (space_first) steps.push_back({{"type", "Prepend"}, {"prepend", kMetaspace}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMetaspace}});
  Json decoders = {
      {{"type", "Replace"}, {"pattern", {{"String", kMetaspace}}}, {"content", " "}}, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}};
  if (space_first) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(steps)}}},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
          {"model", {{"type", "BPE"}, {"unk_token", nullptr}, {"fuse_unk", true}, {"byte_fallback", false}}}};
}

void put_before_texts(TokenizerFile& file) {
  const std::string& name = file.tokens[*file.beginning].name;
  const Json token = {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
  const auto text = [](const char* id, int type) { return Json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  file.document["post_processor"] = {{"type", "TemplateProcessing"},
                                     {"single", {token, text("A", 0)}},
                                     {"pair", {token, text("A", 0), text("B", 1)}},
                                     {"special_tokens", {{name, {{"id", name}, {"ids", {*file.beginning}}, {"tokens", {name}}}}}}};
}

TokenizerFile load_tokenizer_file(const std::filesystem::path& path) {
  Json document = path.filename() == "vocab.json"  ? document_of_old_files(path)
                  : path.filename() == "vocab.txt" ? document_of_word_pieces(path)
                                                   : read_json(path);
  TokenizerFile file = Reader(path.string(), std::move(document)).read();
  read_settings(file, path.parent_path());
  return file;
}

TokenizerFile make_tokenizer_file(const LearnedMerges& learned, std::string_view end_of_text) {
  TokenizerFile file;
  file.document = byte_level_document();
  file.tokens.push_back({.name = std::string(end_of_text), .type = TokenType::kControl});
  file.added.push_back({.content = std::string(end_of_text), .id = 0, .special = true});
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(learned.tokens.size());
  for (const std::string& token : learned.tokens) {
    ids.emplace(token, static_cast<int32_t>(file.tokens.size()));
    file.tokens.push_back({.name = to_byte_level(token), .type = TokenType::kNormal});
  }
  for (const auto& [left, right] : learned.merges)
    file.merges.push_back(
        {left + 1, right + 1, ids.at(learned.tokens[left] + learned.tokens[right]), static_cast<int32_t>(file.merges.size())});
  read_parts(file, "the learned tokenizer");
  return file;
}

}  // namespace sememe
