#pragma once
// Text as a stream of documents, whatever file it comes from. Nothing larger than one document is held in memory.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sememe {

struct Document {
  std::string text;    ///< valid UTF-8
  std::string source;  ///< file, and where in it
};

/// A stream of documents that can be read once.
class Corpus {
 public:
  virtual ~Corpus() = default;
  virtual std::optional<Document> next() = 0;
};

/// Opens one file by its name and content: .jsonl (member "text" a line), .txt or any other text (one document a
/// paragraph block separated by a line that holds only "<|endoftext|>", else the whole file cut at blank lines into
/// documents of at least 2,000 bytes, or at a line's end after 1 MiB without one), each plain, gzip, dictzip (.dz) or
/// zstd, told by its first bytes.
/// @throws Error naming the file if it is missing, empty, binary or of an unknown kind; while reading, also the line
std::unique_ptr<Corpus> open_corpus(const std::filesystem::path& path);

}  // namespace sememe
