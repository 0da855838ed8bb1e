#pragma once
// Files that are whole or absent: every output is written under a temporary name beside its place, synced, then renamed.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace sememe {

/// A file that appears under its name only when commit() has returned; otherwise the old file stays as it was.
class AtomicFile {
 public:
  /// @throws Error if the folder does not exist or cannot be written (names the path and the system's reason)
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites bytes already written, for headers whose content is known last.
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  uint64_t size() const { return size_; }
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

/// Makes sure that writing the folder `target` would destroy nothing but an earlier output of the same kind, which is known by its file
/// `mark`. Long work asks before it starts.
/// @throws Error if `target` is a file, or a folder that is neither empty nor holds `mark`
void check_output_folder(const std::filesystem::path& target, std::string_view mark);

/// A folder that is filled under a temporary name (`path()`) and takes its place, replacing what stood there, at commit().
class AtomicFolder {
 public:
  /// @throws Error as check_output_folder, or if its parent cannot be made
  AtomicFolder(std::filesystem::path target, std::string_view mark);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& path() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  bool committed_ = false;
};

void write_file(const std::filesystem::path& path, std::string_view text);

/// @throws Error if the file is missing, is a folder or holds more than `max_bytes`
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes = uint64_t{1} << 32);

/// A whole file as read-only memory; pages are brought in as they are touched.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// Asks the system to bring mapped bytes into memory, without waiting for them.
void read_ahead(std::span<const std::byte> mapped);

}  // namespace sememe
