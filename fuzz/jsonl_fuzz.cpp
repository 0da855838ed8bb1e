#include "fuzz/parse_file.h"
#include "sememe/data/jsonl.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    sememe::JsonlReader reader(path);
    while (reader.next()) {
    }
  });
}
