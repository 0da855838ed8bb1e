#include "sememe/formats/gguf.h"

#include "fuzz/parse_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const sememe::GgufFile file(path);
    volatile uint64_t sum = 0;
    for (const sememe::GgufEntry& entry : file.metadata())
      sum = sum + sememe::gguf_type_name(entry.value).size() + sememe::gguf_to_json(entry.value).size();
    for (const sememe::GgufTensor& tensor : file.tensors())
      for (const float weight : sememe::dequantize(tensor)) sum = sum + static_cast<uint64_t>(weight > 0);
  });
}
