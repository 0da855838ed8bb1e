#include "sememe/text/spelling.h"

#include "sememe/base/error.h"
#include "sememe/formats/shown.h"
#include "sememe/text/byte_level.h"
#include "sememe/text/utf8.h"

namespace sememe {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";

/// What BERT's decoder does about English punctuation.
std::string cleaned_up(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kTighter[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [loose, tight] : kTighter) text = replaced(text, loose, tight);
  return text;
}

}  // namespace

int byte_of_name(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return -1;
  int byte = 0;
  for (const char digit : name.substr(3, 2)) {
    const int value = digit >= '0' && digit <= '9' ? digit - '0' : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
    if (value < 0) return -1;
    byte = byte * 16 + value;
  }
  return byte;
}

Spelling::Spelling(const Json& decoder, std::string_view where) {
  add(decoder, where, 0);
}

void Spelling::add(const Json& decoder, std::string_view where, int depth) {
  const auto type = json_member<std::string>(decoder, "type", where);
  if (type == "Sequence" && depth < 8) {
    for (const Json& part : json_member<std::vector<Json>>(decoder, "decoders", where)) add(part, where, depth + 1);
  } else if (type == "ByteLevel") {
    kind_ = Kind::kByteLevel;
  } else if (type == "WordPiece") {
    kind_ = Kind::kWordPiece;
    prefix_ = json_member_or<std::string>(decoder, "prefix", "##", where);
    cleans_up_ = json_member_or<bool>(decoder, "cleanup", true, where);
    strips_first_space_ = true;
  } else if (type == "Metaspace") {
    const bool prefix = json_member_or<bool>(decoder, "add_prefix_space", true, where);
    strips_first_space_ = json_member_or<std::string>(decoder, "prepend_scheme", prefix ? "always" : "never", where) != "never";
  } else if (type == "Replace") {
    const auto from = json_member_or<std::string>(json_member<Json>(decoder, "pattern", where), "String", "", where);
    if (from != kMetaspace || json_member<std::string>(decoder, "content", where) != " ")
      fail("{}: Replace of \"{}\" is not supported, only of U+2581 by a space", where, shown(from));
  } else if (type == "ByteFallback") {
    byte_names_ = true;
  } else if (type == "Strip") {
    if (json_member<std::string>(decoder, "content", where) != " " || json_member<int64_t>(decoder, "start", where) != 1 ||
        json_member<int64_t>(decoder, "stop", where) != 0)
      fail("{}: Strip is supported only of one space at the start", where);
    strips_first_space_ = true;
  } else if (type != "Fuse") {
    fail("{}: type \"{}\" is not supported; ByteLevel, Metaspace, WordPiece, Replace, ByteFallback, Fuse, Strip and Sequence are", where,
         shown(type));
  }
}

std::string Spelling::spell(const std::string& name) const {
  if (kind_ == Kind::kByteLevel) return from_byte_level(name).value_or(name);
  if (kind_ == Kind::kWordPiece) {
    if (!prefix_.empty() && name.starts_with(prefix_)) return name.substr(prefix_.size());
    return cleans_up_ ? cleaned_up(" " + name) : " " + name;
  }
  if (const int byte = byte_names_ ? byte_of_name(name) : -1; byte >= 0) return std::string(1, static_cast<char>(byte));
  return replaced(name, kMetaspace, " ");
}

}  // namespace sememe
