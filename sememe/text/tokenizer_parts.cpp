// The parts of a tokenizer.json that say how its model is used.

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/tokenizer_file.h"

namespace sememe {
namespace {

class PartsReader {
 public:
  PartsReader(TokenizerFile& file, const std::string& where) : file_(file), where_(where) {}
  void read();

 private:
  std::string part(std::string_view name) const { return where_ + ": " + std::string(name); }
  const Json& member(const char* key) const {
    static const Json null;
    const auto found = file_.document.find(key);
    return found == file_.document.end() ? null : *found;
  }
  std::optional<int32_t> id_of(std::string_view name) const {
    for (size_t id = 0; id < file_.tokens.size(); ++id)
      if (file_.tokens[id].type != TokenType::kAbsent && file_.tokens[id].name == name) return static_cast<int32_t>(id);
    return std::nullopt;
  }
  void read_model();
  void read_post_processor(const Json& processor, int depth);
  void check_bytes() const;

  TokenizerFile& file_;
  const std::string& where_;
};

void PartsReader::read() {
  read_model();
  file_.normalizer = Normalizer(member("normalizer"), part("normalizer"));
  const bool spaces_come = file_.normalizer.normalize("a b").find(' ') != std::string::npos;
  file_.cutter = Cutter(member("pre_tokenizer"), spaces_come, part("pre_tokenizer"));
  if (member("decoder").is_null()) fail("{}: decoder is missing: without it, nobody can say which bytes a token stands for", where_);
  file_.spelling = Spelling(member("decoder"), part("decoder"));
  const bool byte_level = file_.cutter.byte_level();
  if (byte_level != (file_.spelling.kind() == Spelling::Kind::kByteLevel))
    fail("{}: only one of pre_tokenizer and decoder is ByteLevel, they belong together", where_);
  if (byte_level) check_bytes();
  read_post_processor(member("post_processor"), 0);
}

void PartsReader::read_model() {
  const Json& model = member("model");
  const std::string where = part("model");
  // Files from before version 0.9 of `tokenizers` leave the type out.
  const auto type = json_member_or<std::string>(model, "type", "BPE", where);
  if (type == "BPE") {
    file_.model = TokenModel::kMerges;
  } else if (type == "Unigram") {
    file_.model = TokenModel::kUnigram;
  } else if (type == "WordPiece") {
    file_.model = TokenModel::kWordPiece;
  } else {
    fail("{}: type \"{}\" is not supported; BPE, Unigram and WordPiece are", where, shown(type));
  }
  if (json_member_or<double>(model, "dropout", 0.0, where) != 0.0)
    fail("{}: dropout makes ids random and is not supported; set it to null", where);
  if (const auto suffix = json_member_or<std::string>(model, "end_of_word_suffix", "", where); !suffix.empty())
    fail("{}: end_of_word_suffix \"{}\" is not supported", where, shown(suffix));
  file_.continuing_prefix = json_member_or<std::string>(model, "continuing_subword_prefix", type == "WordPiece" ? "##" : "", where);
  if (type == "BPE" && !file_.continuing_prefix.empty())
    fail("{}: continuing_subword_prefix \"{}\" is not supported", where, shown(file_.continuing_prefix));
  file_.ignore_merges = json_member_or<bool>(model, "ignore_merges", false, where);
  file_.byte_fallback = json_member_or<bool>(model, "byte_fallback", false, where);
  file_.fuse_unknown = json_member_or<bool>(model, "fuse_unk", false, where);
  file_.most_characters = json_member_or<int64_t>(model, "max_input_chars_per_word", 100, where);
  if (type == "Unigram") {
    const auto unknown = json_member_or<int64_t>(model, "unk_id", -1, where);
    if (unknown < -1 || unknown >= static_cast<int64_t>(file_.tokens.size()))
      fail("{}: unk_id is {}, but there are {} tokens", where, unknown, file_.tokens.size());
    file_.unknown = static_cast<int32_t>(unknown);
  } else if (const auto name = json_member_or<std::string>(model, "unk_token", "", where); !name.empty()) {
    const std::optional<int32_t> id = id_of(name);
    if (!id) fail("{}: unk_token is \"{}\", which vocab does not have", where, shown(name));
    file_.unknown = *id;
  }
}

void PartsReader::read_post_processor(const Json& processor, int depth) {
  if (processor.is_null()) return;
  const std::string where = part("post_processor");
  const auto type = json_member<std::string>(processor, "type", where);
  std::string beginning, closing;
  if (type == "Sequence" && depth < 8) {
    for (const Json& part : json_member<std::vector<Json>>(processor, "processors", where)) read_post_processor(part, depth + 1);
  } else if (type == "TemplateProcessing") {
    const auto items = json_member<std::vector<Json>>(processor, "single", where);
    if (!items.empty() && items[0].is_object() && items[0].contains("SpecialToken"))
      beginning = json_member<std::string>(items[0]["SpecialToken"], "id", where);
    if (items.size() > 1 && items.back().is_object() && items.back().contains("SpecialToken"))
      closing = json_member<std::string>(items.back()["SpecialToken"], "id", where);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    const auto name_at = [&](const char* key) {
      const Json pair = json_member<Json>(processor, key, where);
      if (!pair.is_array() || pair.empty() || !pair[0].is_string()) fail("{}: {} is no pair of a token and its id", where, key);
      return pair[0].get<std::string>();
    };
    beginning = name_at("cls");
    closing = name_at("sep");
  } else if (type != "ByteLevel") {  // which only moves offsets
    fail("{}: type \"{}\" is not supported; TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel and Sequence are", where,
         shown(type));
  }
  if (!closing.empty()) {
    file_.closing = id_of(closing);
    if (!file_.closing) fail("{}: puts \"{}\" behind texts, which is no token", where, shown(closing));
  }
  if (beginning.empty()) return;
  file_.beginning = id_of(beginning);
  if (!file_.beginning) fail("{}: puts \"{}\" before texts, which is no token", where, shown(beginning));
  file_.adds_beginning = true;
}

void PartsReader::check_bytes() const {
  if (file_.byte_fallback) fail("{}: model: byte_fallback is not supported; byte-level tokenizers have no use for it", where_);
  std::array<bool, 256> known{};
  for (const TokenizerFile::Token& token : file_.tokens) {
    if (token.type == TokenType::kAbsent || token.name.size() > 2) continue;
    if (const auto bytes = from_byte_level(token.name); bytes && bytes->size() == 1) known[static_cast<unsigned char>((*bytes)[0])] = true;
  }
  for (int byte = ' '; byte <= '~'; ++byte)
    if (!known[byte])
      fail("{}: model: vocab has no token for byte {:#04x} (\"{}\"): was it trained without the byte-level alphabet?", where_, byte,
           to_byte_level(std::string(1, static_cast<char>(byte))));
}

}  // namespace

void read_parts(TokenizerFile& file, const std::string& where) {
  PartsReader(file, where).read();
}

}  // namespace sememe
