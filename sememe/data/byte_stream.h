#pragma once
// The bytes and lines of a file, decompressed on the way: plain, gzip (and dictzip, which is gzip with an index) or
// zstd, told apart by their first bytes and not by the name.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace sememe {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  /// Fills as much of `buffer` as it can; 0 means the end.
  /// @throws Error naming the file if it cannot be read, is damaged, or ends inside a compressed stream
  virtual size_t read(std::span<char> buffer) = 0;
};

/// @throws Error naming the file if it is missing or not a regular file
std::unique_ptr<ByteStream> open_bytes(const std::filesystem::path& path);

/// The whole decompressed content. @throws Error if it has more than `max_bytes`
std::string read_decompressed(const std::filesystem::path& path, uint64_t max_bytes = uint64_t{1} << 30);

class LineReader {
 public:
  static constexpr size_t kLongestLine = 64 << 20;

  explicit LineReader(const std::filesystem::path& path);
  /// The next line as valid UTF-8 without its end ("\n" or "\r\n"). Rare invalid bytes become U+FFFD, with one note.
  /// @throws Error naming file and byte offset if the file is binary (a NUL, or more than 3 % invalid bytes), or a line
  /// is longer than 64 MiB
  std::optional<std::string> next();
  /// The number of the line that next() gave last, from 1.
  int64_t line() const { return line_; }
  /// "FILE:LINE", for messages.
  std::string where() const;

 private:
  std::optional<std::string> next_raw();
  void check_text(std::string& text);

  std::filesystem::path path_;
  std::unique_ptr<ByteStream> bytes_;
  std::string block_;
  size_t position_ = 0;
  int64_t line_ = 0;
  uint64_t offset_ = 0, invalid_ = 0;
};

/// Replaces every byte that is in no valid sequence by U+FFFD. @return how many bytes were invalid
size_t repair_utf8(std::string& text);

}  // namespace sememe
