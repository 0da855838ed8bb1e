// OpenAI's sparse_autoencoder: one state dict with pre_bias, latent_bias, encoder.weight [latents, width], decoder.weight [width, latents], the
// name of the activation and its settings. With TopK, its library normalises each row first (mean 0, deviation 1) and undoes it afterwards.

#include <optional>

#include "sememe/base/error.h"
#include "sememe/features/interchange/format.h"
#include "sememe/features/interchange/weight_file.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// The one file of weights in the folder, or the path itself.
std::optional<fs::path> find_state(const fs::path& folder) {
  const auto weights = [](const fs::path& path) {
    return path.extension() == ".pt" || path.extension() == ".pth" || path.extension() == ".safetensors";
  };
  std::optional<fs::path> found;
  if (fs::is_regular_file(folder)) return weights(folder) ? std::optional(folder) : std::nullopt;
  if (!fs::is_directory(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file() || !weights(entry.path())) continue;
    if (found) return std::nullopt;
    found = entry.path();
  }
  return found;
}

/// A plain value of the checkpoint, or text of the metadata of safetensors.
std::string text_of(const Json& values, const char* key, const std::string& fallback) {
  return values.contains(key) ? (values[key].is_string() ? values[key].get<std::string>() : values[key].dump()) : fallback;
}

int64_t k_of(WeightFile& file, const Json& values, int64_t latents) {
  const std::string where = file.path().string();
  for (const char* const key : {"activation_state_dict.k", "k"}) {
    if (file.contains(key)) return checked_k(static_cast<int64_t>(file.number(key)), latents, where);
    if (!values.contains(key)) continue;
    // Metadata of safetensors is text.
    const Json value = values[key].is_string() ? parse_json(values[key].get<std::string>(), where + ": " + key) : values[key];
    return checked_k(json_member<int64_t>(Json{{"k", value}}, "k", where), latents, where);
  }
  fail("{}: the activation is TopK but \"activation_state_dict\" has no \"k\"", where);
}

}  // namespace

bool is_openai(const fs::path& folder) {
  const auto path = find_state(folder);
  if (!path) return false;
  const WeightFile file(*path);
  return file.contains("pre_bias") && file.contains("latent_bias");
}

DictionaryParts read_openai(const fs::path& folder, const ReadOptions& options) {
  WeightFile file(find_state(folder).value());
  const std::string where = file.path().string();
  const Json values = file.values();
  const auto [latents, width] = file.matrix_shape("encoder.weight");
  DictionaryParts parts;
  parts.weights = {file.load("encoder.weight", {latents, width}), file.load("latent_bias", {latents}),
                   file.load("decoder.weight", {width, latents}).t().contiguous(), file.load("pre_bias", {width})};
  const std::string activation = text_of(values, "activation", "ReLU");
  if (activation == "TopK") {
    const std::string after = text_of(values, "activation_state_dict.postact_fn", "ReLU");
    if (after != "ReLU") fail("{}: \"postact_fn\" is \"{}\"; only ReLU can be held, as codes are positive", where, after);
    if (!options.inputs_normalized)
      fail("{}: its activation is TopK, with which its library normalises each row (layer_norm), which cannot be folded into weights; if the "
           "rows you give it are normalised already, convert it with --inputs-normalized",
           where);
    parts.architecture = "topk";
    parts.k = k_of(file, values, latents);
  } else if (activation == "ReLU") {
    parts.architecture = "relu";
    parts.thresholds = torch::zeros({latents});
  } else {
    fail("{}: the activation \"{}\" cannot be held; ReLU and TopK can", where, activation);
  }
  parts.config = imported_config("openai", values, "", "");
  return parts;
}

}  // namespace sememe
