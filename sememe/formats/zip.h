#pragma once
// Zip archives, as far as files of weights need them: stored and deflated entries, 64-bit sizes. The central directory is what counts; it
// is checked against the file before anything is read, and each entry's CRC-32 when it is.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/base/files.h"

namespace sememe {

struct ZipEntry {
  std::string name;
  bool deflated = false;
  uint64_t size = 0;                ///< bytes once inflated
  uint32_t crc = 0;                 ///< of those bytes
  std::span<const std::byte> data;  ///< as they lie in the file
};

/// What an entry holds: the file's own bytes where it is stored, inflated ones where it is not.
struct ZipContent {
  std::vector<std::byte> inflated;
  std::span<const std::byte> bytes;
};

class ZipFile {
 public:
  /// Deflated entries may hold this many times the file's bytes together, and kSmallBytes; more is taken for an attack on memory.
  static constexpr uint64_t kLargestRatio = 64, kSmallBytes = uint64_t{64} << 20;

  /// @throws Error naming the file, and the entry at fault, if it is no archive, a size or place cannot be true, entries overlap or share a
  ///         name, or an entry is encrypted or compressed in another way
  explicit ZipFile(const std::filesystem::path& path);

  /// In the order of their places.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  const ZipEntry* find(std::string_view name) const;  ///< null if there is none
  /// The content lives as long as this object.
  /// @throws Error naming file and entry if it cannot be inflated or its CRC-32 differs
  ZipContent read(const ZipEntry& entry) const;
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<ZipEntry> entries_;
};

/// Writes stored entries, each at a multiple of 64 bytes as PyTorch does; the archive appears, whole, at commit().
class ZipWriter {
 public:
  /// @param wide_from sizes and places from here on are written as 64-bit fields; tests lower it
  explicit ZipWriter(const std::filesystem::path& path, uint64_t wide_from = 0xFFFFFFFF);
  /// @throws Error if the name stands twice
  void add(const std::string& name, std::span<const std::byte> bytes);
  void commit();

 private:
  struct Written {
    std::string name;
    uint64_t size = 0, place = 0;
    uint32_t crc = 0;
  };
  AtomicFile file_;
  std::string path_;
  uint64_t wide_from_;
  std::vector<Written> entries_;
};

}  // namespace sememe
