#include "sememe/data/dictd.h"

#include <map>

#include "sememe/base/error.h"
#include "sememe/data/byte_stream.h"

namespace sememe {
namespace {

uint64_t parse_base64_number(std::string_view digits, const std::string& where) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (digits.empty() || digits.size() > 10) fail("{}: an offset or length is missing or too long", where);
  uint64_t value = 0;
  for (const char digit : digits) {
    const size_t place = kDigits.find(digit);
    if (place == std::string_view::npos) fail("{}: an offset or length is not a base 64 number", where);
    value = value * 64 + place;
  }
  return value;
}

/// The text's place for each entry, which sorts them and drops repeats.
std::map<std::pair<uint64_t, uint64_t>, std::string> read_index(const std::filesystem::path& path,
                                                                uint64_t text_bytes) {
  std::map<std::pair<uint64_t, uint64_t>, std::string> entries;
  LineReader lines(path);
  while (const std::optional<std::string> line = lines.next()) {
    if (line->empty()) continue;
    const size_t first = line->find('\t'), second = first == std::string::npos ? first : line->find('\t', first + 1);
    if (second == std::string::npos) fail("{}: is not \"headword<TAB>offset<TAB>length\"", lines.where());
    const size_t third = std::min(line->find('\t', second + 1), line->size());
    const std::string_view view(*line);
    const uint64_t offset = parse_base64_number(view.substr(first + 1, second - first - 1), lines.where());
    const uint64_t length = parse_base64_number(view.substr(second + 1, third - second - 1), lines.where());
    if (offset > text_bytes || length > text_bytes - offset)
      fail("{}: the entry ends at byte {} but the dictionary has {}", lines.where(), offset + length, text_bytes);
    if (!view.starts_with("00-database") && !view.starts_with("00database"))
      entries.emplace(std::pair(offset, length), view.substr(0, first));
  }
  return entries;
}

}  // namespace

std::vector<Document> read_dictd(const std::filesystem::path& index) {
  std::filesystem::path dictionary = index;
  dictionary.replace_extension(".dict.dz");
  if (!std::filesystem::exists(dictionary)) dictionary.replace_extension("");
  const std::string text = read_decompressed(dictionary);
  std::vector<Document> documents;
  for (const auto& [place, headword] : read_index(index, text.size())) {
    std::string entry = text.substr(place.first, place.second);
    repair_utf8(entry);
    documents.push_back({std::move(entry), dictionary.string() + ": " + headword});
  }
  return documents;
}

std::vector<Document> read_fortunes(const std::filesystem::path& path) {
  std::vector<Document> documents;
  Document document;
  LineReader lines(path);
  const auto finish = [&] {
    if (document.text.find_first_not_of(" \t\n") != std::string::npos) documents.push_back(document);
    document = {"", lines.where()};
  };
  finish();
  while (const std::optional<std::string> line = lines.next()) {
    if (!line->empty() && line->find_first_not_of('%') == std::string::npos)
      finish();
    else
      document.text += *line + "\n";
  }
  finish();
  return documents;
}

}  // namespace sememe
