#include "sememe/text/tokenizer_file.h"

#include <algorithm>
#include <unordered_map>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/formats/shown.h"
#include "sememe/text/byte_level.h"

namespace sememe {
namespace {

/// Ids beyond this are refused, so that a hostile file cannot ask for a huge table.
constexpr int64_t kMostIds = int64_t{1} << 22;

/// Reads one file's parts into a TokenizerFile; `where_` begins every message.
class Reader {
 public:
  Reader(std::string where, Json document) : where_(std::move(where)) { file_.document = std::move(document); }
  TokenizerFile read();

 private:
  std::string part(std::string_view name) const { return where_ + ": " + std::string(name); }
  std::string type_of(const Json& object, std::string_view name) const {
    return json_member_or<std::string>(object, "type", "", part(name));
  }
  const Json& member(const char* key) const {
    static const Json null;
    const auto found = file_.document.find(key);
    return found == file_.document.end() ? null : *found;
  }
  void must_be_null(const char* key, std::string_view advice) const;
  void read_model();
  void read_vocabulary(const Json& vocabulary);
  void put(int64_t id, TokenizerFile::Token token, std::string_view name, std::string_view where);
  void read_merges(const Json& merges);
  std::pair<std::string, std::string> split_merge(const Json& merge, size_t rank) const;
  int32_t id_of(const std::string& name, size_t rank) const;
  void read_added_tokens();
  void read_pre_tokenizer(const Json& pre_tokenizer, bool in_sequence);
  void check_post_processor(const Json& processor) const;
  void check_bytes() const;

  std::string where_;
  TokenizerFile file_;
  std::unordered_map<std::string, int32_t> ids_;  ///< by name as written in the file
};

TokenizerFile Reader::read() {
  if (!file_.document.is_object()) fail("{}: is not a tokenizer: the JSON value is no object", where_);
  must_be_null("normalizer", "texts are encoded as they are");
  must_be_null("truncation", "set it to null");
  must_be_null("padding", "set it to null");
  read_model();
  read_added_tokens();
  if (member("pre_tokenizer").is_null())
    fail("{}: pre_tokenizer is missing; only byte-level tokenizers (type ByteLevel) are supported", where_);
  read_pre_tokenizer(member("pre_tokenizer"), false);
  if (const std::string type = type_of(member("decoder"), "decoder"); type != "ByteLevel")
    fail("{}: decoder of type \"{}\" is not supported, only ByteLevel is", where_, type);
  check_post_processor(member("post_processor"));
  check_bytes();
  return std::move(file_);
}

void Reader::must_be_null(const char* key, std::string_view advice) const {
  const Json& value = member(key);
  if (value.is_null()) return;
  fail("{}: {} of type \"{}\" is not supported: {}", where_, key, value.is_object() ? type_of(value, key) : "?",
       advice);
}

void Reader::read_model() {
  const Json& model = member("model");
  if (!model.is_object()) fail("{}: model is missing", where_);
  const std::string where = part("model");
  // Files from before version 0.9 of `tokenizers` leave the type out.
  const std::string type = json_member_or<std::string>(model, "type", "BPE", where);
  if (type != "BPE") fail("{}: type \"{}\" is not supported, only BPE is", where, type);
  if (json_member_or<double>(model, "dropout", 0.0, where) != 0.0)
    fail("{}: dropout makes ids random and is not supported; set it to null", where);
  if (json_member_or<bool>(model, "byte_fallback", false, where))
    fail("{}: byte_fallback is not supported; byte-level tokenizers have no use for it", where);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto affix = json_member_or<std::string>(model, key, "", where); !affix.empty())
      fail("{}: {} \"{}\" is not supported", where, key, affix);
  file_.ignore_merges = json_member_or<bool>(model, "ignore_merges", false, where);
  const auto vocabulary = model.find("vocab"), merges = model.find("merges");
  if (vocabulary == model.end() || !vocabulary->is_object()) fail("{}: vocab is missing or not an object", where);
  if (merges == model.end() || !merges->is_array()) fail("{}: merges is missing or not an array", where);
  read_vocabulary(*vocabulary);
  read_merges(*merges);
}

void Reader::read_vocabulary(const Json& vocabulary) {
  const std::string where = part("model: vocab");
  for (const auto& [name, id] : vocabulary.items()) {
    if (!id.is_number_integer())
      fail("{}: the id of \"{}\" is not an integer: {}", where, name, id.dump().substr(0, 40));
    const std::optional<std::string> bytes = from_byte_level(name);
    put(id.get<int64_t>(), {bytes.value_or(name), true, bytes.has_value()}, name, where);
  }
}

void Reader::put(int64_t id, TokenizerFile::Token token, std::string_view name, std::string_view where) {
  if (id < 0 || id >= kMostIds) fail("{}: \"{}\" has id {}, ids must be from 0 to {}", where, name, id, kMostIds - 1);
  if (static_cast<size_t>(id) >= file_.tokens.size()) file_.tokens.resize(id + 1);
  if (file_.tokens[id].present) fail("{}: \"{}\" has id {}, which another token has too", where, name, id);
  file_.tokens[id] = std::move(token);
  ids_.emplace(name, static_cast<int32_t>(id));
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
  if (found == ids_.end())
    fail("{}: merge {} names \"{}\", which vocab does not have", part("model: merges"), rank, name);
  return found->second;
}

void Reader::read_merges(const Json& merges) {
  file_.merges.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = split_merge(merges[rank], rank);
    file_.merges.push_back({id_of(left, rank), id_of(right, rank), id_of(left + right, rank)});
  }
}

void Reader::read_added_tokens() {
  const Json& added = member("added_tokens");
  if (added.is_null()) return;
  const std::string where = part("added_tokens");
  if (!added.is_array()) fail("{}: is not an array", where);
  for (const Json& token : added) {
    const auto content = json_member<std::string>(token, "content", where);
    const Json number = json_member<Json>(token, "id", where);
    if (!number.is_number_integer()) fail("{}: the id of \"{}\" is not an integer", where, content);
    const int64_t id = number.get<int64_t>();
    const auto known = ids_.find(content);
    if (known == ids_.end()) {
      put(id, {content, true, false}, content, where);
    } else if (known->second != id) {
      fail("{}: \"{}\" has id {} here and {} in the vocabulary", where, content, id, known->second);
    }
    file_.specials[content] = static_cast<int32_t>(id);
  }
}

void Reader::read_pre_tokenizer(const Json& pre_tokenizer, bool in_sequence) {
  const std::string where = part("pre_tokenizer");
  const std::string type = type_of(pre_tokenizer, "pre_tokenizer");
  if (type == "Sequence" && !in_sequence) {
    const auto parts = json_member<std::vector<Json>>(pre_tokenizer, "pretokenizers", where);
    if (parts.empty() || type_of(parts.back(), "pre_tokenizer") != "ByteLevel")
      fail("{}: a Sequence is supported only if it ends in ByteLevel", where);
    if (parts.size() > 2 || (parts.size() == 2 && type_of(parts[0], "pre_tokenizer") != "Digits"))
      fail("{}: a Sequence of {} parts that begins with \"{}\" is not supported, only Digits and ByteLevel are", where,
           parts.size(), type_of(parts[0], "pre_tokenizer"));
    for (const Json& part : parts) read_pre_tokenizer(part, true);
  } else if (type == "Digits" && in_sequence) {
    const bool each = json_member_or<bool>(pre_tokenizer, "individual_digits", false, where);
    file_.digits = each ? TokenizerFile::Digits::kEach : TokenizerFile::Digits::kRuns;
  } else if (type == "ByteLevel") {
    file_.add_prefix_space = json_member_or<bool>(pre_tokenizer, "add_prefix_space", true, where);
    file_.split_words = json_member_or<bool>(pre_tokenizer, "use_regex", true, where);
  } else {
    fail("{}: type \"{}\" is not supported, only ByteLevel (alone or after Digits) is", where, type);
  }
}

void Reader::check_post_processor(const Json& processor) const {
  if (processor.is_null()) return;
  const std::string type = type_of(processor, "post_processor");
  // These add special tokens around a text or move offsets; the ids of the text itself stay as they are.
  for (const char* harmless : {"ByteLevel", "TemplateProcessing", "RobertaProcessing", "BertProcessing"})
    if (type == harmless) return;
  if (type != "Sequence") fail("{}: post_processor of type \"{}\" is not supported", where_, type);
  for (const Json& part : json_member<std::vector<Json>>(processor, "processors", part("post_processor")))
    check_post_processor(part);
}

void Reader::check_bytes() const {
  for (int byte = ' '; byte <= '~'; ++byte) {
    const std::string name = to_byte_level(std::string(1, static_cast<char>(byte)));
    if (!ids_.contains(name))
      fail("{}: model: vocab has no token for byte {:#04x} (\"{}\"): was it trained without the byte-level alphabet?",
           where_, byte, name);
  }
}

Json byte_level_document() {
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Json::array()},
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
            {"ignore_merges", false},
            {"vocab", Json::object()},
            {"merges", Json::array()}}}};
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

}  // namespace

TokenizerFile load_tokenizer_file(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return load_tokenizer_file(path / "tokenizer.json");
  Json document = path.filename() == "vocab.json" ? document_of_old_files(path) : read_json(path);
  return Reader(path.string(), std::move(document)).read();
}

TokenizerFile tokenizer_file_of(const GgufFile& file) {
  const std::string where = file.path().string();
  if (const std::string& kind = file.text("tokenizer.ggml.model"); kind != "gpt2")
    fail("{}: tokenizer.ggml.model is \"{}\"; \"gpt2\" (byte-level BPE) is supported", where, shown(kind));
  Json document = byte_level_document();
  const std::string rule = file.has_key("tokenizer.ggml.pre") ? file.text("tokenizer.ggml.pre") : "gpt-2";
  if (rule == "smollm") {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    document["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {digits, document["pre_tokenizer"]}}};
  } else if (rule != "gpt-2") {
    fail("{}: tokenizer.ggml.pre is \"{}\"; the splitting rules \"gpt-2\" and \"smollm\" are supported", where, shown(rule));
  }
  const std::vector<std::string>& tokens = file.texts("tokenizer.ggml.tokens");
  const auto* const types = std::get_if<std::vector<int32_t>>(&file.value("tokenizer.ggml.token_type"));
  if (types == nullptr || types->size() != tokens.size())
    fail("{}: tokenizer.ggml.token_type is no array of int32 with one for each of the {} tokens", where, tokens.size());
  constexpr int32_t kControl = 3, kUserDefined = 4;
  Json& vocabulary = document["model"]["vocab"];
  for (size_t id = 0; id < tokens.size(); ++id) {
    vocabulary[tokens[id]] = id;
    if ((*types)[id] == kControl || (*types)[id] == kUserDefined)
      document["added_tokens"].push_back(special_token(tokens[id], static_cast<int64_t>(id)));
  }
  document["model"]["merges"] = file.texts("tokenizer.ggml.merges");
  return Reader(where, std::move(document)).read();
}

TokenizerFile make_tokenizer_file(const LearnedMerges& learned, std::string_view end_of_text) {
  Json document = byte_level_document();
  document["added_tokens"].push_back(special_token(end_of_text, 0));
  Json& vocabulary = document["model"]["vocab"];
  Json& merges = document["model"]["merges"];
  vocabulary[std::string(end_of_text)] = 0;
  std::vector<std::string> names;
  for (const std::string& token : learned.tokens) {
    names.push_back(to_byte_level(token));
    vocabulary[names.back()] = names.size();
  }
  for (const auto& [left, right] : learned.merges) merges.push_back(names[left] + " " + names[right]);
  return Reader("the learned tokenizer", std::move(document)).read();
}

}  // namespace sememe
