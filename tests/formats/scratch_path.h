#pragma once
// A file of its own for each test, removed after it.

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "sememe/base/error.h"

namespace sememe {

class ScratchPath {
 public:
  explicit ScratchPath(const std::string& name)
      : folder_(std::filesystem::temp_directory_path() / fmt::format("formats_test-{}-{}", getpid(), count_++)), path_(folder_ / name) {
    std::filesystem::create_directories(folder_);
  }
  ~ScratchPath() { std::filesystem::remove_all(folder_); }
  ScratchPath(const ScratchPath&) = delete;
  ScratchPath& operator=(const ScratchPath&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  static inline int count_ = 0;
  std::filesystem::path folder_, path_;
};

/// Unlike write_file without waiting for the disk, which counts where a test writes hundreds of files.
inline void put_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace sememe
