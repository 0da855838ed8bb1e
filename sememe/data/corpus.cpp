#include "sememe/data/corpus.h"

#include "sememe/base/error.h"
#include "sememe/data/byte_stream.h"
#include "sememe/data/jsonl.h"

namespace sememe {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr size_t kShortestCut = 2'000;
constexpr size_t kLongestDocument = LineReader::kLongestLine;
/// Text without any blank line is cut at a line's end, so that it is not held whole.
constexpr size_t kCutAnyway = 1 << 20;

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

class JsonlCorpus : public Corpus {
 public:
  explicit JsonlCorpus(const std::filesystem::path& path) : reader_(path) {}
  std::optional<Document> next() override {
    while (const std::optional<Json> object = reader_.next()) {
      Document document{json_member<std::string>(*object, "text", reader_.where()), reader_.where()};
      if (!blank(document.text)) return document;
    }
    return std::nullopt;
  }

 private:
  JsonlReader reader_;
};

class TextCorpus : public Corpus {
 public:
  TextCorpus(const std::filesystem::path& path, bool separated) : lines_(path), separated_(separated) {}
  std::optional<Document> next() override {
    Document document;
    while (const std::optional<std::string> line = lines_.next()) {
      if (document.source.empty()) document.source = lines_.where();
      const bool cut =
          separated_ ? *line == kSeparator
                     : (document.text.size() >= kShortestCut && blank(*line)) || document.text.size() >= kCutAnyway;
      if (!(cut && separated_)) document.text += *line + "\n";
      if (document.text.size() > kLongestDocument)
        fail("{}: a document of more than {} bytes; put lines of {} between documents", lines_.where(),
             kLongestDocument, kSeparator);
      if (!cut) continue;
      if (!blank(document.text)) return trimmed(std::move(document));
      document = {};
    }
    if (blank(document.text)) return std::nullopt;
    return trimmed(std::move(document));
  }

 private:
  static Document trimmed(Document document) {
    const size_t first = document.text.find_first_not_of('\n');
    const size_t last = document.text.find_last_not_of(" \t\n");
    document.text = document.text.substr(first, last + 1 - first);
    return document;
  }
  LineReader lines_;
  bool separated_;
};

bool named_jsonl(const std::filesystem::path& path) {
  const std::string ending = path.extension().string();
  const bool compressed = ending == ".gz" || ending == ".zst" || ending == ".dz";
  return (compressed ? path.stem().extension() : path.extension()) == ".jsonl";
}

/// Looks through the file once: whether documents are separated by lines, and that there is any text.
bool has_separators(const std::filesystem::path& path) {
  LineReader lines(path);
  bool any_text = false;
  while (const std::optional<std::string> line = lines.next()) {
    if (*line == kSeparator) return true;
    any_text = any_text || !blank(*line);
  }
  if (!any_text) fail("{}: holds no text", path.string());
  return false;
}

}  // namespace

std::unique_ptr<Corpus> open_corpus(const std::filesystem::path& path) {
  if (!named_jsonl(path)) return std::make_unique<TextCorpus>(path, has_separators(path));
  if (!JsonlReader(path).next()) fail("{}: holds no documents", path.string());
  return std::make_unique<JsonlCorpus>(path);
}

}  // namespace sememe
