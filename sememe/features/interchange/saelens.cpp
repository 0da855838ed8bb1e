// SAELens: cfg.json and sae_weights.safetensors. Its encoder is [width, latents].

#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/features/interchange/format.h"
#include "sememe/features/interchange/weight_file.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// A cfg.json as versions from 6.0 write it, whichever wrote this one.
struct Config {
  explicit Config(const fs::path& folder) : where((folder / "cfg.json").string()), source(read_json(folder / "cfg.json")) {
    if (!source.is_object()) fail("{}: is no object of settings", where);
    config = source;
    metadata = source.contains("metadata") && source["metadata"].is_object() ? source["metadata"] : Json::object();
    if (!source.contains("metadata")) rename_old_keys();
  }

  template <class T>
  T member(const char* key) const {
    return json_member<T>(config, key, where);
  }
  template <class T>
  T member_or(const char* key, T fallback) const {
    return json_member_or<T>(config, key, fallback, where);
  }
  std::string text(const char* key) const { return json_member_or<std::string>(metadata, key, "", where + ": metadata"); }

  std::string where;
  Json source, config, metadata;

 private:
  void rename_old_keys() {
    for (const auto& [old, now] : {std::pair{"hook_point", "hook_name"}, {"hook_point_layer", "hook_layer"},
                                   {"hook_point_head_index", "hook_head_index"}, {"activation_fn_str", "activation_fn"}})
      if (config.contains(old) && !config.contains(now)) config[now] = config[old];
    metadata = config;
    const auto activation = member_or<std::string>("activation_fn", "relu");
    if (activation.starts_with("topk")) {
      config["architecture"] = "topk";
      const Json arguments = member_or<Json>("activation_fn_kwargs", Json::object());
      if (arguments.is_object() && arguments.contains("k")) config["k"] = arguments["k"];
    } else if (activation != "relu") {
      fail("{}: the key \"activation_fn\" is \"{}\"; relu and topk can be held", where, activation);
    }
    const Json normalize = member_or<Json>("normalize_activations", "none");
    if (normalize.is_boolean()) config["normalize_activations"] = normalize.get<bool>() ? "expected_average_only_in" : "none";
    if (!config.contains("reshape_activations") && text("hook_name").find("hook_z") != std::string::npos)
      config["reshape_activations"] = "hook_z";
  }
};

/// Folds what scales inputs, and says what of it is not in the folder.
/// @return the scale, 1 if there is none
double fold_inputs(const Config& config, const fs::path& folder, const ReadOptions& options, DictionaryParts& parts) {
  const auto normalize = config.member_or<std::string>("normalize_activations", "none");
  const fs::path scaler = folder / "activation_scaler.json";
  if (normalize == "expected_average_only_in") {
    if (!fs::exists(scaler)) {
      if (!options.inputs_normalized)
        note(fmt::format("{}: was learnt on rows scaled to a mean norm of {:.4g}, and the folder does not hold the scale; it is read as it is",
                         folder.string(), std::sqrt(static_cast<double>(parts.weights.width()))));
      return 1.0;
    }
    const double scale = json_member_or<double>(read_json(scaler), "scaling_factor", 1.0, scaler.string());
    try {
      fold_input_scale(parts, scale);
    } catch (const Error& error) {
      fail("{}: the key \"scaling_factor\": {}", scaler.string(), error.what());
    }
    return scale;
  }
  if (normalize == "none" || options.inputs_normalized) return 1.0;
  fail("{}: the key \"normalize_activations\" is \"{}\", which depends on each row and cannot be folded into weights; if the rows you give "
       "it are normalised already, convert it with --inputs-normalized",
       config.where, normalize);
}

/// Atoms times the factors that an early version learnt after the rest.
void fold_finetuning(WeightFile& file, const Config& config, AutoencoderWeights& weights) {
  for (const char* const name : {"scaling_factor", "finetuning_scaling_factor"}) {
    if (!file.contains(name)) continue;
    const torch::Tensor factors = file.load(name, {weights.latents()});
    if (torch::equal(factors, torch::ones_like(factors))) continue;
    if (!config.member_or<bool>("finetuning_scaling_factor", false))
      fail("{}: tensor \"{}\" is there but the key \"finetuning_scaling_factor\" of cfg.json is not true", file.path().string(), name);
    weights.decoder = weights.decoder * factors.unsqueeze(1);
  }
}

torch::Tensor batch_thresholds(WeightFile& file, int64_t latents) {
  if (file.contains("threshold")) return file.load("threshold", {latents});
  const double threshold = file.number("topk_threshold");
  return torch::full({latents}, threshold);
}

}  // namespace

DictionaryParts read_saelens(const fs::path& folder, const ReadOptions& options) {
  const Config config(folder);
  const auto architecture = config.member_or<std::string>("architecture", "standard");
  const auto width = config.member<int64_t>("d_in"), latents = config.member<int64_t>("d_sae");
  if (width < 1 || latents < 1) fail("{}: d_in {} and d_sae {} cannot be: both are at least 1", config.where, width, latents);
  WeightFile file(folder / "sae_weights.safetensors");
  const bool gated = architecture == "gated";
  DictionaryParts parts;
  parts.weights = {file.load("W_enc", {width, latents}).t().contiguous(), file.load(gated ? "b_gate" : "b_enc", {latents}),
                   file.load("W_dec", {latents, width}), file.load("b_dec", {width})};
  parts.config = imported_config("saelens", config.source, config.text("hook_name"), config.text("model_name"));
  const bool batch = architecture == "batchtopk" || architecture == "matryoshka_batchtopk";
  if (architecture == "standard") {
    parts.architecture = "relu";
    parts.thresholds = torch::zeros({latents});
  } else if (architecture == "topk") {
    parts.architecture = "topk";
    parts.k = checked_k(config.member<int64_t>("k"), latents, config.where);
  } else if (architecture == "jumprelu") {
    parts.architecture = "jumprelu";
    parts.thresholds = !file.contains("threshold") && file.contains("log_threshold") ? file.load("log_threshold", {latents}).exp()
                                                                                     : file.load("threshold", {latents});
  } else if (batch) {
    parts.architecture = architecture == "batchtopk" ? "batchtopk" : "matryoshka";
    parts.thresholds = batch_thresholds(file, latents);
    if (config.config.contains("k")) parts.config["k"] = config.config["k"];
  } else if (gated) {
    parts.architecture = "gated";
    parts.log_magnitude = file.load("r_mag", {latents});
    parts.magnitude_bias = file.load("b_mag", {latents});
  } else {
    fail("{}: the architecture \"{}\" cannot be held; standard, topk, jumprelu, gated, batchtopk and matryoshka_batchtopk can", config.where,
         architecture);
  }
  fold_finetuning(file, config, parts.weights);
  const double scale = fold_inputs(config, folder, options, parts);
  if (!config.member_or<bool>("apply_b_dec_to_input", true)) fold_decoder_bias(parts);
  // Codes of such a dictionary are in units of the atoms' norms, and so are its thresholds, but for inputs before their scale was folded.
  if ((architecture == "topk" || batch) && config.member_or<bool>("rescale_acts_by_decoder_norm", batch)) {
    const int64_t k = std::exchange(parts.k, 0);  // here the selection is by what folding makes of the codes
    const torch::Tensor thresholds = std::exchange(parts.thresholds, torch::Tensor());
    fold_decoder_norms(parts);
    parts.k = k;
    if (thresholds.defined()) parts.thresholds = thresholds / scale;
  }
  const auto reshape = config.member_or<std::string>("reshape_activations", "none");
  if (reshape == "hook_z")
    note(fmt::format("{}: takes rows in which the heads' outputs stand one after the other (hook_z)", folder.string()));
  else if (reshape != "none")
    fail("{}: the key \"reshape_activations\" is \"{}\"; none and hook_z can be held", config.where, reshape);
  return parts;
}

std::string saelens_site(const fs::path& folder) { return Config(folder).text("hook_name"); }

void write_saelens(const DictionaryParts& parts, const fs::path& folder, const WriteOptions&) {
  const AutoencoderWeights& weights = parts.weights;
  const Json source = source_config(parts, "saelens");
  NamedTensors tensors{{"W_enc", weights.encoder.t()}, {"W_dec", weights.decoder}, {"b_dec", weights.decoder_bias}};
  Json config{{"d_in", weights.width()}, {"d_sae", weights.latents()}, {"dtype", "float32"}, {"device", "cpu"},
              {"apply_b_dec_to_input", true}, {"normalize_activations", "none"},
              {"reshape_activations", source.contains("reshape_activations") ? source["reshape_activations"] : Json("none")}};
  if (parts.gated()) {
    config["architecture"] = "gated";
    tensors.insert(tensors.end(), {{"b_gate", weights.encoder_bias}, {"b_mag", parts.magnitude_bias}, {"r_mag", parts.log_magnitude}});
  } else {
    tensors.emplace_back("b_enc", weights.encoder_bias);
    if (parts.k > 0) {
      config["architecture"] = "topk";
      config["k"] = parts.k;
      config["rescale_acts_by_decoder_norm"] = false;
    } else if (parts.thresholds.max().item<float>() == 0.0f) {
      config["architecture"] = "standard";
    } else {
      config["architecture"] = "jumprelu";
      tensors.emplace_back("threshold", parts.thresholds);
    }
  }
  Json metadata = source.contains("metadata") && source["metadata"].is_object() ? source["metadata"] : Json::object();
  metadata["sae_lens_version"] = "6.0.0";  // the version whose keys these are
  if (parts.config.contains("model")) metadata["model_name"] = parts.config["model"];
  if (parts.config.contains("site")) metadata["hook_name"] = parts.config["site"];
  if (source.empty()) metadata["sememe"] = parts.config;
  config["metadata"] = metadata;
  save_tensors(folder / "sae_weights.safetensors", tensors);
  write_json(folder / "cfg.json", config);
}

}  // namespace sememe
