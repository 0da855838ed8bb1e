#include "sememe/families/encoder_config.h"
#include "sememe/families/family.h"

#include <cstring>

#include "fuzz/parse_file.h"

// What files of a model say of it: GGUF's metadata, or else a config.json.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const bool gguf = size >= 4 && std::memcmp(data, "GGUF", 4) == 0;
  return sememe::parse_file(data, size, [&](const std::filesystem::path& path) {
    if (gguf) {
      sememe::describe_gguf(sememe::GgufFile(path));
      return;
    }
    const sememe::Json json = sememe::read_json(path);
    if (json.is_object() && json.value("model_type", sememe::Json()) == "bert") {
      sememe::encoder_config(json, "config.json");
      return;
    }
    const sememe::TransformerConfig config = sememe::config_from_json(json, "config.json");
    for (const bool local : {false, true}) sememe::rotary_frequencies(config, local);
    if (config.layers < 100) sememe::describe_written(config);
  });
}
