#include "sememe/language/gguf_model.h"

#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/memory.h"
#include "sememe/formats/gguf.h"
#include "sememe/language/quantized_network.h"

namespace sememe {

LanguageModel load_gguf(const std::filesystem::path& path, Precision precision) {
  if (precision == Precision::kFile) {
    const auto network = std::make_shared<QuantizedNetwork>(path);
    return {network, Tokenizer::of_gguf(*network->engine().weights().source().gguf()), path};
  }
  const GgufFile file(path);
  const auto [config, places] = describe_gguf(file);
  const Tokenizer tokenizer = Tokenizer::of_gguf(file);
  int64_t weights = 0;
  for (const GgufTensor& tensor : file.tensors()) weights += tensor.num_weights();
  require_memory(weights * static_cast<int64_t>(sizeof(float)), fmt::format("{} in float32", path.string()));
  const torch::NoGradGuard no_grad;
  const ParameterShapes shapes(config);
  auto network = std::make_shared<Transformer>(config);
  auto parameters = network->named_parameters();
  for (const TensorPlace& place : places) {
    const GgufTensor& tensor = file.tensor(place.tensor);
    std::vector<float> weights = dequantize(tensor);
    const torch::Tensor whole = torch::from_blob(weights.data(), tensor.shape);
    if (!torch::isfinite(whole).all().item<bool>())
      fail("{}: tensor \"{}\" holds a NaN or infinite value", path.string(), place.tensor);
    place_weight(place, whole, shapes, parameters);
  }
  network->eval();
  return {network, tokenizer, path};
}

}  // namespace sememe
