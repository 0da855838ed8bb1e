// Gemma Scope: params.npz with W_enc [width, latents], W_dec, b_enc, b_dec and threshold. Inputs enter the encoder as they are.

#include "sememe/base/error.h"
#include "sememe/features/interchange/format.h"
#include "sememe/features/interchange/weight_file.h"

namespace sememe {

DictionaryParts read_gemma_scope(const std::filesystem::path& folder, const ReadOptions&) {
  WeightFile file(folder / "params.npz");
  const auto [width, latents] = file.matrix_shape("W_enc");
  DictionaryParts parts;
  parts.architecture = "jumprelu";
  parts.weights = {file.load("W_enc", {width, latents}).t().contiguous(), file.load("b_enc", {latents}), file.load("W_dec", {latents, width}),
                   file.load("b_dec", {width})};
  parts.thresholds = file.load("threshold", {latents});
  fold_decoder_bias(parts);
  parts.config = imported_config("gemma-scope", Json::object(), "", "");
  return parts;
}

void write_gemma_scope(const DictionaryParts& parts, const std::filesystem::path& folder, const WriteOptions&) {
  if (!parts.thresholds.defined())
    fail("Gemma Scope's params.npz holds dictionaries whose latents have thresholds; this one is of architecture {}", parts.architecture);
  const NamedTensors tensors{{"W_enc", parts.weights.encoder.t()}, {"W_dec", parts.weights.decoder}, {"b_enc", unfolded_encoder_bias(parts)},
                             {"b_dec", parts.weights.decoder_bias}, {"threshold", parts.thresholds}};
  with_views(tensors, [&](std::span<const TensorView> views) { write_npz(folder / "params.npz", views); });
}

}  // namespace sememe
