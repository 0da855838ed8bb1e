#include "sememe/text/tokenizer_llama2c.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/text/character_pairs.h"
#include "sememe/text/utf8.h"

namespace sememe {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";
// SentencePiece's own tokens have sixteen characters at most unless told otherwise. Every way to cut one in two is looked at.
constexpr uint32_t kLongest = 1024;

class Bytes {
 public:
  Bytes(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {}
  bool empty() const { return bytes_.empty(); }
  template <class Number>
  Number number(size_t token) {
    Number value;
    std::memcpy(&value, take(sizeof value, token).data(), sizeof value);
    return value;
  }
  std::string_view take(size_t count, size_t token) {
    if (bytes_.size() < count) fail("{}: ends inside token {}; was it copied whole?", where_, token);
    const std::string_view taken(reinterpret_cast<const char*>(bytes_.data()), count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
};

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Character character = first_character(text);
    if (!character.valid()) return false;
    text.remove_prefix(character.length);
  }
  return true;
}

/// The file has spaces as they are and line breaks around the tokens that begin and end texts, for printing.
TokenizerFile::Token token_of(std::string_view bytes, float score) {
  if (bytes == "\n<s>\n" || bytes == "\n</s>\n") bytes = bytes.substr(1, bytes.size() - 2);
  TokenizerFile::Token token{.name = replaced(bytes, " ", kMetaspace), .type = TokenType::kNormal, .score = score};
  if (bytes.empty()) token.type = TokenType::kUnused;
  if (bytes == "<unk>") token.type = TokenType::kUnknown;
  if (bytes == "<s>" || bytes == "</s>") token.type = TokenType::kControl;
  if (byte_of_name(bytes) >= 0) token.type = TokenType::kByte;
  return token;
}

}  // namespace

TokenizerFile tokenizer_file_of_llama2c(const std::filesystem::path& path) {
  const std::string where = path.string();
  const MappedFile mapped(path);
  Bytes bytes(mapped.bytes(), where);
  if (mapped.bytes().size() < sizeof(uint32_t)) fail("{}: is no tokenizer of llama2.c: it has {} bytes", where, mapped.bytes().size());
  const auto longest = bytes.number<uint32_t>(0);
  if (longest < 1 || longest > kLongest)
    fail("{}: is no tokenizer of llama2.c: its longest token would have {} bytes; from 1 to {} can be", where, longest, kLongest);
  TokenizerFile file;
  while (!bytes.empty()) {
    const size_t id = file.tokens.size();
    if (static_cast<int64_t>(id) == kMostTokenIds) fail("{}: has more than {} tokens", where, kMostTokenIds);
    const auto score = bytes.number<float>(id);
    const auto length = bytes.number<uint32_t>(id);
    if (!(score > -1e30F && score < 1e30F)) fail("{}: the score of token {} is {}", where, id, score);
    if (length > longest) fail("{}: token {} has {} bytes, the longest is to have {}", where, id, length, longest);
    const std::string_view name = bytes.take(length, id);
    if (!is_utf8(name)) fail("{}: token {} is not UTF-8", where, id);
    file.tokens.push_back(token_of(name, score));
  }
  const auto named = [&](std::string_view name) {
    const auto found = std::find_if(file.tokens.begin(), file.tokens.end(),
                                    [&](const TokenizerFile::Token& token) { return token.type == TokenType::kControl && token.name == name; });
    if (found == file.tokens.end()) fail("{}: has no token {}, which begins and ends texts", where, name);
    return static_cast<int32_t>(found - file.tokens.begin());
  };
  file.beginning = named("<s>");
  file.adds_beginning = true;
  file.single_precision = true;
  file.document = sentence_piece_document(true);
  Json& model = file.document["model"];
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const TokenizerFile::Token& token = file.tokens[id];
    if (token.type == TokenType::kByte) model["byte_fallback"] = true;
    if (token.type == TokenType::kUnknown) model["unk_token"] = token.name;
    if (token.type == TokenType::kControl || token.type == TokenType::kUnknown)
      file.added.push_back({.content = token.name, .id = static_cast<int32_t>(id), .special = true});
  }
  put_before_texts(file);
  file.merges = merges_of_scores(file.tokens);
  read_parts(file, where);
  // What llama2.c's models were trained on is documents with <s> between them.
  file.end = named("</s>");
  file.ends = {*file.beginning, *file.end};
  return file;
}

}  // namespace sememe
