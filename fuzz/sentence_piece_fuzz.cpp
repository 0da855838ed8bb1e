#include "fuzz/parse_file.h"
#include "sememe/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const sememe::Tokenizer tokenizer = sememe::Tokenizer::of_sentence_piece(path);
    const std::string text = "It's  caf\xC3\xA9\n\xFF 12 <s>\xE4\xB8\xAD";
    for (const auto specials : {sememe::Tokenizer::Specials::kAsText, sememe::Tokenizer::Specials::kAsTokens})
      tokenizer.decode(tokenizer.encode(text, specials));
  });
}
