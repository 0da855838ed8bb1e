#include "fuzz/parse_file.h"
#include "sememe/inference/quantized_transformer.h"

// A GGUF file as a model, and a few tokens through it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return sememe::parse_file(data, size, [&](const std::filesystem::path& path) {
    sememe::QuantizedTransformer model(path, 1);
    if (model.config().vocabulary < 4 || model.config().context < 4) return;
    sememe::TokenCache cache(model.config());
    const int32_t ids[] = {1, 2, 3};
    const sememe::TokenRun run{ids, &cache};
    model.forward({&run, 1});
  });
}
