#include "sememe/formats/zip.h"

#include "fuzz/parse_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const sememe::ZipFile file(path);
    volatile uint64_t sum = 0;
    for (const sememe::ZipEntry& entry : file.entries())
      for (const std::byte byte : file.read(entry).bytes) sum = sum + std::to_integer<uint64_t>(byte);
  });
}
