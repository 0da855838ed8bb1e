// dictionary_learning: config.json and ae.pt, a PyTorch checkpoint. Each of its classes has its own names for the tensors, and its own mind on
// whether inputs enter the encoder with the decoder's bias subtracted.

#include <cmath>

#include "sememe/base/error.h"
#include "sememe/features/interchange/format.h"
#include "sememe/features/interchange/weight_file.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

Json trainer_of(const Json& config, const std::string& where) {
  Json trainer = json_member<Json>(config, "trainer", where);
  if (!trainer.is_object()) fail("{}: the key \"trainer\" is no object", where);
  return trainer;
}

/// encoder.weight [latents, width], decoder.weight [width, latents], under `bias` the decoder's bias.
AutoencoderWeights load_linear(WeightFile& file, const char* encoder_bias, const char* bias) {
  const auto [latents, width] = file.matrix_shape("encoder.weight");
  return {file.load("encoder.weight", {latents, width}), file.load(encoder_bias, {latents}),
          file.load("decoder.weight", {width, latents}).t().contiguous(), file.load(bias, {width})};
}

/// W_enc [width, latents], W_dec [latents, width].
AutoencoderWeights load_matrices(WeightFile& file) {
  const auto [width, latents] = file.matrix_shape("W_enc");
  return {file.load("W_enc", {width, latents}).t().contiguous(), file.load("b_enc", {latents}), file.load("W_dec", {latents, width}),
          file.load("b_dec", {width})};
}

torch::Tensor one_threshold(WeightFile& file, int64_t latents) {
  const double threshold = file.number("threshold");
  if (threshold < 0)
    fail("{}: tensor \"threshold\" is {}: it was trained for too few steps for one, and cannot encode single rows", file.path().string(),
         threshold);
  return torch::full({latents}, threshold);
}

int64_t load_k(WeightFile& file, const Json& trainer, int64_t latents, const std::string& where) {
  const auto k = json_member<int64_t>(trainer, "k", where);
  if (file.contains("k") && file.number("k") != static_cast<double>(k))
    fail("{}: the key \"k\" is {} but tensor \"k\" of ae.pt is {}", where, k, file.number("k"));
  return checked_k(k, latents, where);
}

void check_size(const Json& trainer, const char* key, int64_t found, const std::string& where) {
  const auto said = json_member_or<int64_t>(trainer, key, found, where);
  if (said != found) fail("{}: the key \"{}\" is {} but the tensors of ae.pt have {}; was the folder copied whole?", where, key, said, found);
}

}  // namespace

DictionaryParts read_dictionary_learning(const fs::path& folder, const ReadOptions&) {
  const fs::path path = folder / "config.json";
  const Json config = read_json(path);
  const Json trainer = trainer_of(config, path.string());
  const std::string where = path.string() + ": trainer";
  const auto kind = json_member<std::string>(trainer, "dict_class", where);
  WeightFile file(folder / "ae.pt");
  DictionaryParts parts;
  bool subtracts = true;
  if (kind == "AutoEncoder" || kind == "AutoEncoderNew") {
    parts.architecture = "relu";
    subtracts = kind == "AutoEncoder";
    parts.weights = load_linear(file, "encoder.bias", subtracts ? "bias" : "decoder.bias");
    parts.thresholds = torch::zeros({parts.weights.latents()});
  } else if (kind == "AutoEncoderTopK") {
    parts.architecture = "topk";
    parts.weights = load_linear(file, "encoder.bias", "b_dec");
    parts.k = load_k(file, trainer, parts.weights.latents(), where);
  } else if (kind == "BatchTopKSAE" || kind == "MatryoshkaBatchTopKSAE") {
    const bool matryoshka = kind == "MatryoshkaBatchTopKSAE";
    parts.architecture = matryoshka ? "matryoshka" : "batchtopk";
    parts.weights = matryoshka ? load_matrices(file) : load_linear(file, "encoder.bias", "b_dec");
    parts.thresholds = one_threshold(file, parts.weights.latents());
  } else if (kind == "GatedAutoEncoder") {
    parts.architecture = "gated";
    parts.weights = load_linear(file, "gate_bias", "decoder_bias");
    parts.log_magnitude = file.load("r_mag", {parts.weights.latents()});
    parts.magnitude_bias = file.load("mag_bias", {parts.weights.latents()});
  } else if (kind == "JumpReluAutoEncoder") {
    parts.architecture = "jumprelu";
    subtracts = false;
    parts.weights = load_matrices(file);
    parts.thresholds = file.load("threshold", {parts.weights.latents()});
  } else {
    fail("{}: the key \"dict_class\" is \"{}\"; AutoEncoder, AutoEncoderNew, AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE, "
         "GatedAutoEncoder and JumpReluAutoEncoder can be held",
         where, kind);
  }
  check_size(trainer, "activation_dim", parts.weights.width(), where);
  check_size(trainer, "dict_size", parts.weights.latents(), where);
  if (!subtracts) fold_decoder_bias(parts);
  parts.config = imported_config("dictionary-learning", config, dictionary_learning_site(folder),
                                 json_member_or<std::string>(trainer, "lm_name", "", where));
  if (parts.thresholds.defined() && trainer.contains("k")) parts.config["k"] = trainer["k"];
  return parts;
}

std::string dictionary_learning_site(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  return json_member_or<std::string>(trainer_of(read_json(path), path.string()), "submodule_name", "", path.string() + ": trainer");
}

void write_dictionary_learning(const DictionaryParts& parts, const fs::path& folder, const WriteOptions&) {
  const AutoencoderWeights& weights = parts.weights;
  Json config = source_config(parts, "dictionary-learning");
  if (!config.contains("trainer") || !config["trainer"].is_object()) config["trainer"] = Json::object();
  if (!config.contains("buffer")) config["buffer"] = Json::object();
  Json& trainer = config["trainer"];
  trainer.update({{"activation_dim", weights.width()}, {"dict_size", weights.latents()}});
  if (parts.config.contains("model")) trainer["lm_name"] = parts.config["model"];
  if (parts.config.contains("site")) trainer["submodule_name"] = parts.config["site"];
  NamedTensors tensors{{"encoder.weight", weights.encoder}, {"decoder.weight", weights.decoder.t()}};
  const auto whole = [](int64_t value) { return torch::full({}, value, torch::kInt); };
  const bool same = parts.thresholds.defined() && torch::equal(parts.thresholds, parts.thresholds[0].expand_as(parts.thresholds));
  const bool batch = same && parts.config.contains("k") && parts.config["k"].is_number_integer();
  if (parts.gated()) {
    trainer["dict_class"] = "GatedAutoEncoder";
    tensors.insert(tensors.end(), {{"decoder_bias", weights.decoder_bias}, {"gate_bias", weights.encoder_bias},
                                   {"r_mag", parts.log_magnitude}, {"mag_bias", parts.magnitude_bias}});
  } else if (parts.k > 0) {
    trainer["dict_class"] = "AutoEncoderTopK";
    trainer["k"] = parts.k;
    tensors.insert(tensors.end(), {{"encoder.bias", weights.encoder_bias}, {"b_dec", weights.decoder_bias}, {"k", whole(parts.k)},
                                   {"threshold", torch::full({}, -1.0f)}});
  } else if (same && parts.thresholds[0].item<float>() == 0.0f) {
    trainer["dict_class"] = "AutoEncoder";
    tensors.insert(tensors.end(), {{"encoder.bias", weights.encoder_bias}, {"bias", weights.decoder_bias}});
  } else if (batch) {
    trainer["dict_class"] = "BatchTopKSAE";
    trainer["k"] = parts.config["k"];
    tensors.insert(tensors.end(), {{"encoder.bias", weights.encoder_bias}, {"b_dec", weights.decoder_bias},
                                   {"k", whole(parts.config["k"].get<int64_t>())}, {"threshold", parts.thresholds[0].clone()}});
  } else {
    trainer["dict_class"] = "JumpReluAutoEncoder";
    tensors = {{"W_enc", weights.encoder.t()}, {"b_enc", unfolded_encoder_bias(parts)}, {"W_dec", weights.decoder},
               {"b_dec", weights.decoder_bias}, {"threshold", parts.thresholds}};
  }
  with_views(tensors, [&](std::span<const TensorView> views) { write_torch_checkpoint(folder / "ae.pt", views); });
  write_json(folder / "config.json", config);
}

}  // namespace sememe
