#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "sememe/base/error.h"
#include "sememe/language/language_model.h"
#include "sememe/language/sentence_encoder.h"
#include "sememe/network/tensors.h"

namespace sememe {
namespace {

// Half of transformers_oracle.py: for each folder of reference/ the logits of inputs.safetensors, and the bundle saved again.
TEST(Oracle, DISABLED_RunsAndSavesTheModelsOfTheFolder) {
  torch::NoGradGuard no_grad;
  const char* const folder = std::getenv("SEMEME_ORACLE_FOLDER");
  ASSERT_NE(folder, nullptr) << "run tests/language/transformers_oracle.py";
  const std::filesystem::path from = std::filesystem::path(folder) / "reference", to = std::filesystem::path(folder) / "saved";
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::filesystem::path gguf = entry.path() / "model.gguf";
    const LanguageModel model = LanguageModel::load(std::filesystem::exists(gguf) ? gguf : entry.path());
    const torch::Tensor inputs = load_tensor(SafetensorsFile(entry.path() / "inputs.safetensors"), "inputs");
    SiteVisitor nobody;
    const torch::Tensor logits = model.network->forward({inputs, {}}, nobody);
    KeyValueCache cache;
    std::vector<torch::Tensor> steps;
    for (int64_t at = 0; at < inputs.size(1); ++at)
      steps.push_back(model.network->forward({inputs.narrow(1, at, 1), {}}, nobody, cache));
    const std::string name = entry.path().filename().string();
    NamedTensors made = {{"logits", logits}, {"cached", torch::cat(steps, 1)}};
    try {
      made.emplace_back("engine", LanguageModel::load(model.folder, Precision::kFile).network->forward({inputs, {}}, nobody));
    } catch (const Error& error) {
      std::printf("%s\n", error.what());  // which the other half expects where widths are no multiples of 32
    }
    save_tensors(to / (name + ".logits"), made);
    try {
      describe_written(model.network->config());
    } catch (const Error&) {
      continue;  // which the other half expects of the families that are not written
    }
    model.save(to / (name + ".float32"));
    model.save(to / (name + ".float16"), torch::kFloat16);
  }
}

// Half of encoders_oracle.py: for each folder of reference/ what passes each site for inputs.safetensors.
TEST(EncoderOracle, DISABLED_RunsTheEncodersOfTheFolder) {
  torch::NoGradGuard no_grad;
  const char* const folder = std::getenv("SEMEME_ORACLE_FOLDER");
  ASSERT_NE(folder, nullptr) << "run tests/language/encoders_oracle.py";
  struct Recorder : SiteVisitor {
    NamedTensors seen;
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      seen.emplace_back(site.name, value.clone());
      return value;
    }
  };
  const std::filesystem::path from = std::filesystem::path(folder) / "reference", to = std::filesystem::path(folder) / "sites";
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const torch::Tensor inputs = load_tensor(SafetensorsFile(entry.path() / "inputs.safetensors"), "inputs");
    Recorder recorder;
    SentenceEncoder::load(entry.path()).network->forward({inputs, {}}, recorder);
    save_tensors(to / entry.path().filename(), recorder.seen);
  }
}

}  // namespace
}  // namespace sememe
