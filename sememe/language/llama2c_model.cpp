#include "sememe/language/llama2c_model.h"

#include "sememe/base/error.h"
#include "sememe/base/memory.h"
#include "sememe/network/tensors.h"

namespace sememe {

LanguageModel load_llama2c(const std::filesystem::path& path, const std::filesystem::path& tokenizer) {
  const Llama2cFile file(path);
  const auto [config, places] = describe_llama2c(file);
  const std::filesystem::path words = tokenizer.empty() ? path.parent_path() / "tokenizer.bin" : tokenizer;
  if (tokenizer.empty() && !std::filesystem::exists(words))
    fail("{}: a checkpoint of llama2.c holds no tokenizer, and there is no tokenizer.bin beside it; give --tokenizer", path.string());
  require_memory(static_cast<int64_t>(std::filesystem::file_size(path)), fmt::format("{} in float32", path.string()));
  LanguageModel model{std::make_shared<Transformer>(config), Tokenizer::load(words), path};
  if (model.tokenizer.size() != config.vocabulary)
    fail("{}: the tokenizer {} has {} tokens but the checkpoint is for {}; do the two belong together?", path.string(), words.string(),
         model.tokenizer.size(), config.vocabulary);
  const torch::NoGradGuard no_grad;
  const ParameterShapes shapes(config);
  auto parameters = model.network->named_parameters();
  for (const TensorPlace& place : places)
    place_weight(place, weight_of(file.tensor(place.tensor), shapes.tensor_shape(place), path), shapes, parameters);
  model.network->eval();
  return model;
}

}  // namespace sememe
