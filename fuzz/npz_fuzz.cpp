#include "sememe/formats/npz.h"

#include "fuzz/parse_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const sememe::NpzFile file(path);
    volatile uint64_t sum = 0;
    for (const sememe::TensorView& tensor : file.tensors())
      for (const std::byte byte : tensor.data) sum = sum + std::to_integer<uint64_t>(byte);
  });
}
