#include "sememe/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "sememe/base/error.h"

namespace sememe {
namespace {

std::filesystem::path temporary_name(const std::filesystem::path& target) {
  static std::atomic<int> count = 0;
  std::filesystem::path name = target;
  if (!name.has_filename()) name = name.parent_path();
  const auto folder = name.parent_path();
  return folder / fmt::format(".{}.{}-{}.tmp", name.filename().string(), getpid(), count++);
}

std::string reason() { return std::strerror(errno); }

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) return;  // a folder that cannot be opened can still hold the file; only the rename's durability is lost
  fsync(descriptor);
  close(descriptor);
}

void write_all(int descriptor, const std::byte* data, size_t size, int64_t offset, const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t written = pwrite(descriptor, data, size, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("{}: cannot write: {}; free space or choose another place", path.string(), reason());
    data += written;
    size -= written;
    offset += written;
  }
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), temporary_(temporary_name(path_)) {
  if (std::filesystem::is_directory(path_)) fail("{}: is a folder, a file is to be written there", path_.string());
  descriptor_ = open(temporary_.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("{}: cannot write there: {}", path_.string(), reason());
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_all(descriptor_, bytes.data(), bytes.size(), static_cast<int64_t>(size_), path_);
  size_ += bytes.size();
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  if (offset > size_ || bytes.size() > size_ - offset) fail("{}: bytes beyond the end were to be overwritten", path_.string());
  write_all(descriptor_, bytes.data(), bytes.size(), static_cast<int64_t>(offset), path_);
}

void AtomicFile::commit() {
  if (fsync(descriptor_) != 0) fail("{}: cannot write: {}; free space or choose another place", path_.string(), reason());
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("{}: cannot put the file in place: {}", path_.string(), reason());
  close(std::exchange(descriptor_, -1));
  sync_folder(path_.parent_path());
}

void check_output_folder(const std::filesystem::path& target, std::string_view mark) {
  if (!std::filesystem::exists(target)) return;
  if (!std::filesystem::is_directory(target)) fail("{}: is a file, a folder is to be written there", target.string());
  if (!std::filesystem::is_empty(target) && !std::filesystem::exists(target / mark))
    fail("{}: holds other things (there is no {} in it), and writing there would destroy them; give another folder", target.string(),
         mark);
}

AtomicFolder::AtomicFolder(std::filesystem::path target, std::string_view mark) : target_(std::move(target)) {
  if (!target_.has_filename()) target_ = target_.parent_path();
  check_output_folder(target_, mark);
  temporary_ = temporary_name(target_);
  std::error_code error;
  std::filesystem::create_directories(temporary_, error);
  if (error) fail("{}: cannot write there: {}", target_.string(), error.message());
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  // An existing folder cannot be renamed over: swap the two in one step, then delete the old one.
  const bool replace = std::filesystem::exists(target_);
  if (renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), replace ? RENAME_EXCHANGE : 0) != 0)
    fail("{}: cannot put the folder in place: {}", target_.string(), reason());
  committed_ = true;
  std::error_code ignored;
  if (replace) std::filesystem::remove_all(temporary_, ignored);
  sync_folder(target_.parent_path());
}

void write_file(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("{}: cannot open: {}", path.string(), reason());
  std::string text;
  char block[1 << 16];
  for (;;) {
    const ssize_t got = read(descriptor, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || text.size() + got > max_bytes) {
      const std::string why = got < 0 ? reason() : fmt::format("holds more than {} bytes", max_bytes);
      close(descriptor);
      if (got != 0) fail("{}: cannot read: {}", path.string(), why);
      return text;
    }
    text.append(block, got);
  }
}

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail("{}: cannot open: {}", path.string(), reason());
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    fail("{}: is not a regular file", path.string());
  }
  size_ = static_cast<size_t>(status.st_size);
  void* address = size_ == 0 ? nullptr : mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
  const std::string why = reason();
  close(descriptor);
  if (address == MAP_FAILED) fail("{}: cannot map into memory: {}", path.string(), why);
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void read_ahead(std::span<const std::byte> mapped) {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(mapped.data()), from = begin / page * page;
  // Advice: where it is refused the bytes are read when they are used.
  if (!mapped.empty()) madvise(reinterpret_cast<void*>(from), begin - from + mapped.size(), MADV_WILLNEED);
}

}  // namespace sememe
