#include <unistd.h>

#include "fuzz/parse_file.h"
#include "sememe/inference/neuron_profile.h"
#include "sememe/inference/random_model.h"
#include "sememe/inference/sparse_decoder.h"

// A profile of a tiny model's neurons, and decoding by it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace fs = std::filesystem;
  static const fs::path folder = [] {
    const fs::path path = fs::temp_directory_path() / ("sememe_profile_fuzz_" + std::to_string(getpid()));
    fs::create_directories(path);
    sememe::write_random_model(path / "model.gguf", {"tiny", 2, 32, 32, 1, 1, 32, 32, 16}, sememe::GgmlType::kF16, 1);
    return path;
  }();
  static sememe::QuantizedTransformer engine(folder / "model.gguf", 1);
  return sememe::parse_file(data, size, [&](const fs::path& path) {
    fs::copy_file(path, folder / "profile.safetensors", fs::copy_options::overwrite_existing);
    const auto profile = std::make_shared<const sememe::NeuronProfile>(sememe::NeuronProfile::load(folder, engine));
    const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7};
    for (const char* policy : {"static", "coreinfer-similarity", "partinfer", "cats", "teal"}) {
      sememe::SparseDecoder decoder(engine, {.policy = policy, .layers = sememe::LayerRange{0, 1}}, profile);
      sememe::TokenCache cache(engine.config());
      const sememe::TokenRun prompt{std::span(ids).first(6), &cache}, next{std::span(ids).subspan(6), &cache};
      decoder.read({&prompt, 1});
      decoder.decode({&next, 1});
    }
  });
}
