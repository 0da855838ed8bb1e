#include "sememe/data/recipe.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/data/byte_stream.h"
#include "sememe/data/corpus.h"
#include "sememe/data/dictd.h"
#include "sememe/data/jsonl.h"
#include "sememe/data/markup.h"

namespace sememe {
namespace {

constexpr size_t kShortestSentence = 20;  // bytes; shorter ones ("See also", "v. t.") repeat by nature
constexpr size_t kShingle = 12;           // words
constexpr size_t kShortestDocument = 40;
constexpr std::array<const char*, 3> kSplits = {"train", "validation", "heldout"};
constexpr const char* kReportFile = "sources.json";

struct Source {
  std::string name, format, package, licence;
  std::vector<std::string> files;
};

struct Entry {
  std::string text;
  size_t source;
  size_t split;
};

std::vector<std::string> expand(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> files;
  if (glob(pattern.c_str(), GLOB_BRACE, nullptr, &found) == 0)
    files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  return files;
}

Source parse_source(const Json& json) {
  const std::string where = "corpus source " + json_member_or<std::string>(json, "name", "without a name", "corpus");
  Source source{json_member<std::string>(json, "name", where),
                json_member<std::string>(json, "format", where),
                json_member_or<std::string>(json, "package", "", where),
                json_member_or<std::string>(json, "licence", "", where),
                {}};
  for (const std::string& pattern : json_member<std::vector<std::string>>(json, "paths", where)) {
    const std::vector<std::string> files = expand(pattern);
    if (files.empty() && !source.package.empty())
      fail("{}: no file matches {}; install the Debian package {}", where, pattern, source.package);
    if (files.empty()) fail("{}: no file matches {}", where, pattern);
    source.files.insert(source.files.end(), files.begin(), files.end());
  }
  return source;
}

/// Whole books in one document would leave a split to chance, so they are cut at paragraphs.
std::vector<Document> cut_at_paragraphs(const std::string& text, const std::string& file) {
  constexpr size_t kShortestPart = 4'000;
  std::vector<Document> documents;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("\n\n", std::min(begin + kShortestPart, text.size())), text.size());
    documents.push_back({text.substr(begin, end - begin), file});
    begin = end + 2;
  }
  return documents;
}

std::vector<Document> read_whole(const std::string& file, std::string (*extract)(std::string_view)) {
  std::string text = read_decompressed(file);
  repair_utf8(text);
  return cut_at_paragraphs(keep_prose(unwrap(extract(text))), file);
}

std::vector<Document> read_documents(const std::string& file, const Source& source) {
  if (source.format == "html") return read_whole(file, html_to_text);
  if (source.format == "pod") return read_whole(file, pod_to_text);
  if (source.format == "rst") return read_whole(file, rst_to_text);
  std::vector<Document> documents;
  if (source.format == "dictd") {
    documents = read_dictd(file);
  } else if (source.format == "fortunes") {
    documents = read_fortunes(file);
  } else if (source.format == "text" || source.format == "jsonl") {
    const auto corpus = open_corpus(file);
    while (std::optional<Document> document = corpus->next()) documents.push_back(std::move(*document));
  } else {
    fail("corpus source {}: the format \"{}\" is not one of dictd, fortunes, text, jsonl, html, pod, rst", source.name,
         source.format);
  }
  for (Document& document : documents) document.text = unwrap(document.text);
  return documents;
}

bool ends_sentence(std::string_view text, size_t at) {
  if (text[at] == '\n') return true;
  if (at + 1 < text.size() && text[at + 1] != ' ' && text[at + 1] != '\n') return false;
  return std::string_view(".!?;:").find(text[at]) != std::string_view::npos;
}

/// Calls `take` with each sentence (or clause), its closing sign and the space after it; together they are the text.
template <class Take>
void each_sentence(std::string_view text, Take take) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if (!ends_sentence(text, at) && at + 1 < text.size()) continue;
    size_t end = at + 1;
    while (end < text.size() && (text[end] == ' ' || text[end] == '\n')) ++end;
    take(text.substr(begin, end - begin));
    begin = end;
    at = end - 1;
  }
}

/// Letters and digits in lower case, one space between words: what two sentences are compared by.
std::string normalised(std::string_view sentence) {
  std::string result;
  for (const char c : sentence) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || byte >= 0x80)
      result += static_cast<char>(byte < 0x80 ? std::tolower(byte) : byte);
    else if (!result.empty() && result.back() != ' ')
      result += ' ';
  }
  if (result.ends_with(' ')) result.pop_back();
  return result;
}

/// At most one blank line in a row, none at the ends.
std::string close_gaps(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '\n')
      while (result.ends_with(' ')) result.pop_back();
    if (c != '\n' || (!result.empty() && !result.ends_with("\n\n"))) result += c;
  }
  while (result.ends_with(' ') || result.ends_with('\n')) result.pop_back();
  return result;
}

/// Leaves out the sentences for which `keep` is false.
template <class Keep>
std::string filter_sentences(std::string_view text, Keep keep) {
  std::string result;
  each_sentence(text, [&](std::string_view sentence) {
    if (keep(sentence)) {
      result += sentence;
      return;
    }
    // The paragraph's break outlives its last sentence.
    const size_t breaks = sentence.size() - (sentence.find_last_not_of(" \n") + 1);
    if (!result.empty() && sentence.ends_with('\n')) {
      while (result.ends_with(' ')) result.pop_back();
      if (!result.ends_with('\n')) result += sentence.substr(sentence.size() - breaks);
    }
  });
  return close_gaps(result);
}

/// The hash of every twelve words in a row, with the sentence in which each of them stands.
class Shingles {
 public:
  explicit Shingles(std::string_view text) {
    size_t sentence_index = 0;
    each_sentence(text, [&](std::string_view sentence) {
      const std::string plain = normalised(sentence);
      for (size_t at = 0; at < plain.size();) {
        const size_t end = std::min(plain.find(' ', at), plain.size());
        words_.push_back(hash64(std::string_view(plain).substr(at, end - at)));
        sentences_.push_back(sentence_index);
        at = end + 1;
      }
      ++sentence_index;
    });
  }
  template <class Take>
  void each(Take take) const {
    // Polynomial in the words' hashes, so that each window costs two steps and not twelve.
    constexpr uint64_t kBase = 0x9E3779B97F4A7C15;
    uint64_t leading = 1, hash = 0;
    for (size_t i = 0; i < kShingle; ++i) leading *= kBase;
    for (size_t i = 0; i < words_.size(); ++i) {
      hash = hash * kBase + words_[i] - (i >= kShingle ? leading * words_[i - kShingle] : 0);
      if (i + 1 >= kShingle) take(hash, sentences_[i + 1 - kShingle], sentences_[i]);
    }
  }

 private:
  std::vector<uint64_t> words_;
  std::vector<size_t> sentences_;
};

class Builder {
 public:
  Builder(const Json& sources, std::string_view where, uint64_t seed) : seed_(seed) {
    const auto list = json_member<std::vector<Json>>(sources, "sources", where);
    if (list.empty()) fail("{}: the list of sources is empty", where);
    for (const Json& source : list) sources_.push_back(parse_source(source));
    read_.resize(sources_.size(), 0);
  }

  void read() {
    int64_t files = 0, done = 0;
    for (const Source& source : sources_) files += static_cast<int64_t>(source.files.size());
    Progress progress("read sources", files, "files");
    for (size_t index = 0; index < sources_.size(); ++index)
      for (const std::string& file : sources_[index].files) {
        for (const Document& document : read_documents(file, sources_[index])) add(document, index);
        progress.update(++done, sources_[index].name);
        if (interrupted()) throw Interrupted("interrupted while reading sources; nothing was written");
      }
    seen_ = {};
  }

  /// Drops from validation and held-out text every sentence that shares twelve words in a row with training text.
  void separate() {
    Progress progress("separate splits", static_cast<int64_t>(2 * entries_.size()), "documents");
    int64_t done = 0;
    std::unordered_set<uint64_t> apart, shared;
    for (const Entry& entry : entries_) {
      if (entry.split != 0) Shingles(entry.text).each([&](uint64_t hash, size_t, size_t) { apart.insert(hash); });
      progress.update(++done);
    }
    for (const Entry& entry : entries_) {
      if (entry.split == 0)
        Shingles(entry.text).each([&](uint64_t hash, size_t, size_t) {
          if (apart.contains(hash)) shared.insert(hash);
        });
      progress.update(++done);
    }
    for (Entry& entry : entries_)
      if (entry.split != 0) drop_shared(entry, shared);
    std::erase_if(entries_, [](const Entry& entry) { return entry.text.size() < kShortestDocument; });
  }

  void write(const std::filesystem::path& out) {
    AtomicFolder folder(out, kReportFile);
    RandomStream stream(seed_, "corpus/order");
    std::vector<std::array<std::array<uint64_t, 2>, kSplits.size()>> counts(sources_.size());
    const std::vector<int64_t> order = permutation(static_cast<int64_t>(entries_.size()), stream);
    for (size_t split = 0; split < kSplits.size(); ++split) {
      JsonlWriter writer(folder.path() / fmt::format("{}.jsonl.zst", kSplits[split]));
      for (const int64_t index : order) {
        const Entry& entry = entries_[index];
        if (entry.split != split) continue;
        writer.write({{"text", entry.text}, {"source", sources_[entry.source].name}});
        counts[entry.source][split][0] += 1;
        counts[entry.source][split][1] += entry.text.size();
      }
      writer.commit();
    }
    Json report = {{"seed", seed_}, {"sources", Json::array()}};
    for (size_t index = 0; index < sources_.size(); ++index) {
      const Source& source = sources_[index];
      Json line = {{"name", source.name},
                   {"package", source.package},
                   {"licence", source.licence},
                   {"files", source.files.size()},
                   {"bytes_read", read_[index]}};
      for (size_t split = 0; split < kSplits.size(); ++split) {
        line[kSplits[split]] = {{"documents", counts[index][split][0]}, {"bytes", counts[index][split][1]}};
        Json& total = report[kSplits[split]];
        for (const auto& [key, value] : line[kSplits[split]].items())
          total[key] = json_member_or<uint64_t>(total, key.c_str(), 0, "corpus") + value.get<uint64_t>();
      }
      report["sources"].push_back(line);
    }
    write_json(folder.path() / kReportFile, report);
    folder.commit();
  }

 private:
  void add(const Document& document, size_t source) {
    read_[source] += document.text.size();
    std::string text = filter_sentences(document.text, [&](std::string_view sentence) {
      const std::string plain = normalised(sentence);
      return plain.size() < kShortestSentence || seen_.insert(hash64(plain)).second;
    });
    if (text.size() < kShortestDocument) return;
    const uint64_t draw = RandomStream(seed_, "corpus/split").at(hash64(text)) % 100;
    entries_.push_back({std::move(text), source, draw == 0 ? 2u : draw == 1 ? 1u : 0u});
  }

  static void drop_shared(Entry& entry, const std::unordered_set<uint64_t>& shared) {
    std::unordered_set<size_t> dropped;
    Shingles(entry.text).each([&](uint64_t hash, size_t first, size_t last) {
      if (!shared.contains(hash)) return;
      for (size_t sentence = first; sentence <= last; ++sentence) dropped.insert(sentence);
    });
    if (dropped.empty()) return;
    size_t index = 0;
    entry.text = filter_sentences(entry.text, [&](std::string_view) { return !dropped.contains(index++); });
  }

  uint64_t seed_;
  std::vector<Source> sources_;
  std::vector<uint64_t> read_;
  std::vector<Entry> entries_;
  std::unordered_set<uint64_t> seen_;
};

}  // namespace

void build_corpus(const std::filesystem::path& sources, const std::filesystem::path& out, uint64_t seed) {
  check_output_folder(out, kReportFile);
  Builder builder(read_json(sources), sources.string(), seed);
  builder.read();
  builder.separate();
  builder.write(out);
}

}  // namespace sememe
