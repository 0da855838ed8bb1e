#include "fuzz/parse_file.h"
#include "sememe/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) { sememe::Tokenizer::load(path); });
}
