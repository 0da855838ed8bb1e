#include "fuzz/parse_file.h"
#include "sememe/families/family.h"

// A checkpoint of llama2.c and what it says of the network.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const sememe::Llama2cFile file(path);
    volatile uint64_t sum = 0;
    for (const sememe::TensorView& tensor : file.tensors())
      for (const std::byte byte : tensor.data) sum = sum + static_cast<uint64_t>(byte);
    for (const sememe::TensorPlace& place : sememe::describe_llama2c(file).places) file.tensor(place.tensor);
  });
}
