#include "fuzz/parse_file.h"
#include "sememe/formats/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const sememe::NpyFile file(path);
    volatile uint64_t sum = 0;
    for (const std::byte byte : file.data()) sum = sum + std::to_integer<uint64_t>(byte);
  });
}
