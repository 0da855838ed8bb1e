#include <cstdlib>

#include "fuzz/parse_file.h"
#include "sememe/data/byte_stream.h"
#include "sememe/data/corpus.h"
#include "sememe/data/dictd.h"
#include "sememe/data/markup.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  sememe::repair_utf8(text);
  for (const auto extract : {sememe::html_to_text, sememe::pod_to_text, sememe::rst_to_text}) {
    std::string prose = sememe::keep_prose(sememe::unwrap(extract(text)));
    if (sememe::repair_utf8(prose) != 0) std::abort();  // markup readers must not break characters
  }
  return sememe::parse_file(data, size, [](const std::filesystem::path& path) {
    const auto corpus = sememe::open_corpus(path);
    while (auto document = corpus->next())
      if (sememe::repair_utf8(document->text) != 0) std::abort();
    sememe::read_fortunes(path);
  });
}
