#pragma once
// JSON lines: one object a line, plain or compressed.

#include <filesystem>
#include <memory>
#include <optional>

#include "sememe/base/files.h"
#include "sememe/base/json.h"
#include "sememe/data/byte_stream.h"

namespace sememe {

class JsonlReader {
 public:
  explicit JsonlReader(const std::filesystem::path& path) : lines_(path) {}
  /// The next object; empty lines are passed over.
  /// @throws Error naming file and line if a line is not a JSON object
  std::optional<Json> next();
  /// "FILE:LINE" of the object given last.
  std::string where() const { return lines_.where(); }

 private:
  LineReader lines_;
};

/// Writes objects one a line; compressed with zstd if the name ends with .zst.
class JsonlWriter {
 public:
  explicit JsonlWriter(const std::filesystem::path& path);
  ~JsonlWriter();
  void write(const Json& object);
  /// Puts the file in place; without it nothing is left.
  void commit();

 private:
  struct Compressor;
  void compress(bool last);
  AtomicFile file_;
  std::unique_ptr<Compressor> compressor_;
  std::string pending_;
};

}  // namespace sememe
