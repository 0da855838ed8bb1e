#include "sememe/text/tokenizer_settings.h"

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/formats/shown.h"

namespace sememe {
namespace {

/// The name of a token that stands as a string or as an object with its content; empty if there is none.
std::string token_name(const Json& settings, const char* key, const std::string& where) {
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return "";
  return found->is_object() ? json_member<std::string>(*found, "content", where) : json_member<std::string>(settings, key, where);
}

std::optional<int32_t> id_of(const TokenizerFile& file, std::string_view name) {
  for (const AddedToken& token : file.added)
    if (token.content == name) return token.id;
  for (size_t id = 0; id < file.tokens.size(); ++id)
    if (file.tokens[id].type != TokenType::kAbsent && file.tokens[id].name == name) return static_cast<int32_t>(id);
  return std::nullopt;
}

/// The ids that stand as one number or an array of them.
std::vector<int32_t> ids_at(const TokenizerFile& file, const Json& settings, const char* key, const std::string& where) {
  const auto found = settings.find(key);
  if (found == settings.end() || found->is_null()) return {};
  std::vector<int32_t> ids;
  for (const Json& value : found->is_array() ? *found : Json::array({*found})) {
    const int64_t id = value.is_number_integer() ? value.get<int64_t>() : -1;
    if (id < 0 || id >= static_cast<int64_t>(file.tokens.size()))
      fail("{}: {} holds {}, but the tokenizer has ids 0 to {}", where, key, shown(value.dump()),
           static_cast<int64_t>(file.tokens.size()) - 1);
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Json object_in(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return Json::object();
  Json settings = read_json(path);
  if (!settings.is_object()) fail("{}: the JSON value is no object", path.string());
  return settings;
}

/// One template, or a list of named ones of which "default" is meant.
std::string chat_template_of(const Json& settings, const std::string& where) {
  const auto found = settings.find("chat_template");
  if (found == settings.end() || !found->is_array()) return json_member_or<std::string>(settings, "chat_template", "", where);
  for (const Json& named : *found)
    if (json_member<std::string>(named, "name", where) == "default") return json_member<std::string>(named, "template", where);
  return "";
}

}  // namespace

void read_settings(TokenizerFile& file, const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer_config.json";
  const Json settings = object_in(path);
  const std::string where = path.string();
  if (const std::string name = token_name(settings, "bos_token", where); !name.empty()) {
    // A name that is no token is common there: added to the vocabulary only when it is used.
    if (const std::optional<int32_t> id = id_of(file, name)) file.beginning = id;
  }
  file.adds_beginning = json_member_or<bool>(settings, "add_bos_token", file.adds_beginning, where) && file.beginning.has_value();
  for (const char* name : {"generation_config.json", "config.json"}) {
    const std::vector<int32_t> ids = ids_at(file, object_in(folder / name), "eos_token_id", (folder / name).string());
    if (!file.end && !ids.empty()) file.end = ids.front();
    file.ends.insert(file.ends.end(), ids.begin(), ids.end());
  }
  if (const std::string name = token_name(settings, "eos_token", where); !name.empty()) {
    if (const std::optional<int32_t> id = id_of(file, name)) {
      file.end = id;
      file.ends.push_back(*id);
    }
  }
  file.chat_template = chat_template_of(settings, where);
  if (const std::filesystem::path jinja = folder / "chat_template.jinja"; std::filesystem::is_regular_file(jinja))
    file.chat_template = read_file(jinja);
}

Json settings_json(const TokenizerFile& file) {
  Json settings = Json::object();
  if (file.beginning) settings["bos_token"] = file.tokens[*file.beginning].name;
  if (file.beginning) settings["add_bos_token"] = file.adds_beginning;
  if (file.end) settings["eos_token"] = file.tokens[*file.end].name;
  if (!file.chat_template.empty()) settings["chat_template"] = file.chat_template;
  if (!settings.empty()) settings["tokenizer_class"] = "PreTrainedTokenizerFast";  // which takes tokenizer.json as it is
  return settings;
}

}  // namespace sememe
