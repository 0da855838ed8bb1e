#include <algorithm>

#include "fuzz/parse_file.h"
#include "sememe/formats/gguf.h"
#include "sememe/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A tokenizer that loads must encode anything, and its ids must be its own.
  const std::string text(reinterpret_cast<const char*>(data), std::min<size_t>(size, 2000));
  return sememe::parse_file(data, size, [&](const std::filesystem::path& path) {
    const sememe::Tokenizer tokenizer = sememe::Tokenizer::of_gguf(sememe::GgufFile(path));
    for (const auto specials : {sememe::Tokenizer::Specials::kAsText, sememe::Tokenizer::Specials::kAsTokens})
      tokenizer.decode(tokenizer.encode(text, specials));
  });
}
