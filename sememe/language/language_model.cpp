#include "sememe/language/language_model.h"

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/memory.h"
#include "sememe/language/gguf_model.h"
#include "sememe/language/llama2c_model.h"
#include "sememe/language/quantized_network.h"
#include "sememe/network/tensors.h"

namespace sememe {

namespace {

void load_weights(Transformer& network, const std::vector<TensorPlace>& places, const WeightFiles& files) {
  torch::NoGradGuard no_grad;
  const ParameterShapes shapes(network.config());
  auto parameters = network.named_parameters();
  for (const TensorPlace& place : places)
    place_weight(place, load_weight(files.holding(place.tensor), place.tensor, shapes.tensor_shape(place)), shapes, parameters);
}

std::shared_ptr<DecoderNetwork> load_transformer(const std::filesystem::path& folder) {
  const WeightFiles files(folder);
  const auto [config, places] = describe_folder(files);
  require_memory(files.num_weights() * static_cast<int64_t>(sizeof(float)), fmt::format("{} in float32", folder.string()));
  const auto network = std::make_shared<Transformer>(config);
  load_weights(*network, places, files);
  network->eval();
  return network;
}

/// What place_weight takes apart.
torch::Tensor weight_at(const TensorPlace& place, const ParameterShapes& shapes,
                        const torch::OrderedDict<std::string, torch::Tensor>& parameters) {
  std::vector<torch::Tensor> pieces;
  std::vector<int64_t> rows;
  for (size_t i = 0; i < place.parameters.size(); ++i) {
    pieces.push_back(parameters[place.parameters[i]]);
    const std::vector<int64_t> more = shapes.rows_in_tensor(place, i);
    rows.insert(rows.end(), more.begin(), more.end());
  }
  const torch::Tensor stacked = torch::cat(pieces, 0) - place.added;
  const torch::Tensor whole = torch::empty_like(stacked).index_copy_(0, torch::tensor(rows).to(stacked.device()), stacked);
  return place.transposed ? whole.t() : whole;
}

}  // namespace

void place_weight(const TensorPlace& place, torch::Tensor whole, const ParameterShapes& shapes,
                  torch::OrderedDict<std::string, torch::Tensor>& parameters) {
  if (place.transposed) whole = whole.t();
  if (place.added != 0) whole = whole + place.added;
  // Spares most weights a second copy.
  const bool alike = place.parameters.size() == 1 && place.rows == TensorPlace::Rows::kStacked;
  for (size_t i = 0; i < place.parameters.size(); ++i) {
    torch::Tensor& parameter = parameters[place.parameters[i]];
    parameter.copy_(alike ? whole : whole.index_select(0, torch::tensor(shapes.rows_in_tensor(place, i))));
  }
}

Json config_to_json(const TransformerConfig& config, const Tokenizer& tokenizer, torch::ScalarType weights) {
  Json json = describe_written(config).config_json;
  json["torch_dtype"] = weights == torch::kFloat16 ? "float16" : "float32";
  const int32_t end = tokenizer.end_of_text();
  json["bos_token_id"] = tokenizer.beginning_of_text().value_or(end);
  json["eos_token_id"] = end;
  std::vector<int32_t> ends = tokenizer.ends();
  if (std::erase(ends, end); ends.empty()) return json;
  ends.insert(ends.begin(), end);
  json["eos_token_id"] = ends;
  return json;
}

LanguageModel LanguageModel::load(const std::filesystem::path& folder, Precision precision, const std::filesystem::path& tokenizer) {
  if (folder.extension() == ".bin") return load_llama2c(folder, tokenizer);
  if (!tokenizer.empty()) fail_usage("--tokenizer: {} has a tokenizer of its own; only a llama2.c checkpoint (.bin) has none", folder.string());
  if (folder.extension() == ".gguf") return load_gguf(folder, precision);
  if (!std::filesystem::is_directory(folder))
    fail("{}: there is no such folder; give one that holds config.json, model.safetensors and tokenizer.json, a .gguf file, or llama2.c's .bin",
         folder.string());
  const std::filesystem::path place = folder / "config.json";
  if (!std::filesystem::exists(place)) read_json(place);  // says so, rather than that the weights are missing
  const std::shared_ptr<DecoderNetwork> network = precision == Precision::kFile ? std::make_shared<QuantizedNetwork>(folder) : load_transformer(folder);
  LanguageModel model{network, Tokenizer::load(folder / "tokenizer.json"), folder};
  if (model.tokenizer.size() > network->config().vocabulary)
    fail("{}: the tokenizer has {} tokens but \"vocab_size\" is {}; do the two belong together?", place.string(),
         model.tokenizer.size(), network->config().vocabulary);
  return model;
}

void LanguageModel::write_files(const std::filesystem::path& target, torch::ScalarType weights) const {
  if (weights != torch::kFloat32 && weights != torch::kFloat16) fail_usage("weights are saved as float32 or float16");
  if (!network->has_gradients()) fail("{}: runs in the file's own precision and cannot be saved", folder.string());
  torch::NoGradGuard no_grad;
  const auto parameters = network->named_parameters();
  const ParameterShapes shapes(network->config());
  NamedTensors tensors;
  for (const TensorPlace& place : describe_written(network->config()).places) {
    const torch::Tensor whole = weight_at(place, shapes, parameters).to(torch::kCPU, weights);
    if (!torch::isfinite(whole).all().item<bool>())
      fail("the weight \"{}\" holds a NaN or a value too large for {}{}", place.tensor, c10::toString(weights),
           weights == torch::kFloat16 ? "; save float32 instead" : "");
    tensors.emplace_back(place.tensor, whole);
  }
  save_tensors(target / "model.safetensors", tensors, {{"format", "pt"}});
  write_json(target / "config.json", config_to_json(network->config(), tokenizer, weights));
  tokenizer.save(target / "tokenizer.json");
  tokenizer.save_settings(target);
}

void LanguageModel::save(const std::filesystem::path& target, torch::ScalarType weights) const {
  AtomicFolder whole(target, "model.safetensors");
  write_files(whole.path(), weights);
  whole.commit();
}

}  // namespace sememe
