#pragma once
// Hands the fuzzer's bytes to a reader of files: a file in memory, so that nothing touches the disk.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"

namespace sememe {

/// Calls `read` with a path that holds the bytes. An Error is the right answer to bad bytes; any other exception is a
/// bug.
template <class Read>
int parse_file(const uint8_t* data, size_t size, Read read) {
  set_quiet(true);
  const int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
  if (descriptor < 0 || write(descriptor, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    read(std::filesystem::path("/proc/self/fd/" + std::to_string(descriptor)));
  } catch (const Error& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();  // an error is one line
  }
  close(descriptor);
  return 0;
}

}  // namespace sememe
