// sparsify: a folder for each hookpoint, named after it, with cfg.json and sae.safetensors.

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/features/interchange/format.h"
#include "sememe/features/interchange/weight_file.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

void refuse_if(const Json& config, const char* key, std::string_view why, const std::string& where) {
  if (json_member_or<bool>(config, key, false, where)) fail("{}: the key \"{}\" is true: {}", where, key, why);
}

}  // namespace

DictionaryParts read_sparsify(const fs::path& folder, const ReadOptions&) {
  const fs::path path = folder / "cfg.json";
  const std::string where = path.string();
  const Json config = read_json(path);
  const auto activation = json_member_or<std::string>(config, "activation", "topk", where);
  if (activation != "topk") fail("{}: the key \"activation\" is \"{}\"; only topk can be held", where, activation);
  refuse_if(config, "transcode", "a transcoder reads one place and writes another", where);
  refuse_if(config, "skip_connection", "a linear way past the latents cannot be held", where);
  refuse_if(config, "signed", "codes below zero cannot be held", where);
  const auto width = json_member<int64_t>(config, "d_in", where);
  auto latents = json_member_or<int64_t>(config, "num_latents", 0, where);
  if (latents == 0 && __builtin_mul_overflow(json_member<int64_t>(config, "expansion_factor", where), width, &latents)) latents = 0;
  if (width < 1 || latents < 1) fail("{}: d_in {} and {} latents cannot be: both are at least 1", where, width, latents);
  WeightFile file(folder / "sae.safetensors");
  if (file.contains("W_skip")) fail("{}: tensor \"W_skip\": a linear way past the latents cannot be held", file.path().string());
  DictionaryParts parts;
  parts.architecture = "topk";
  parts.k = checked_k(json_member<int64_t>(config, "k", where), latents, where);
  parts.weights = {file.load("encoder.weight", {latents, width}), file.load("encoder.bias", {latents}), file.load("W_dec", {latents, width}),
                   file.load("b_dec", {width})};
  parts.config = imported_config("sparsify", config, sparsify_site(folder), "");
  return parts;
}

std::string sparsify_site(const fs::path& folder) { return (folder.has_filename() ? folder : folder.parent_path()).filename().string(); }

void write_sparsify(const DictionaryParts& parts, const fs::path& folder, const WriteOptions&) {
  if (parts.k == 0) fail("sparsify holds dictionaries that select the k largest latents; this one is of architecture {}", parts.architecture);
  const AutoencoderWeights& weights = parts.weights;
  const torch::Tensor norms = weights.decoder.norm(2, {1});
  Json config{{"expansion_factor", std::max<int64_t>(1, weights.latents() / weights.width())}, {"multi_topk", false}};
  config.update(source_config(parts, "sparsify"));
  config.update({{"activation", "topk"}, {"num_latents", weights.latents()}, {"d_in", weights.width()}, {"k", parts.k},
                 {"normalize_decoder", (norms - 1).abs().max().item<float>() < 1e-4f}, {"skip_connection", false}, {"transcode", false}});
  save_tensors(folder / "sae.safetensors", {{"encoder.weight", weights.encoder}, {"encoder.bias", weights.encoder_bias},
                                            {"W_dec", weights.decoder}, {"b_dec", weights.decoder_bias}});
  write_json(folder / "cfg.json", config);
}

}  // namespace sememe
