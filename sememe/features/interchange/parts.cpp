#include "sememe/features/interchange/parts.h"

#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/gated_dictionary.h"
#include "sememe/features/threshold_dictionary.h"
#include "sememe/features/top_k.h"

namespace sememe {
namespace {

/// encoder decoder_bias, summed in float64: it replaces a product that the other tool would add up row by row. -> [latents]
torch::Tensor bias_in_latents(const AutoencoderWeights& weights) {
  return torch::mv(weights.encoder.to(torch::kDouble), weights.decoder_bias.to(torch::kDouble));
}

torch::Tensor sum(const torch::Tensor& bias, const torch::Tensor& more) { return (bias.to(torch::kDouble) + more).to(torch::kFloat); }

}  // namespace

DictionaryParts take_apart(const Dictionary& dictionary) {
  const auto* const autoencoder = dynamic_cast<const Autoencoder*>(&dictionary);
  if (!autoencoder) fail("a dictionary of architecture {} has no encoder and decoder that other tools could hold", dictionary.architecture());
  DictionaryParts parts{.weights = autoencoder->weights(), .architecture = dictionary.architecture(), .config = autoencoder->config()};
  if (const auto* const top_k = dynamic_cast<const TopKDictionary*>(autoencoder)) {
    parts.k = top_k->k();
  } else if (const auto* const threshold = dynamic_cast<const ThresholdDictionary*>(autoencoder)) {
    parts.thresholds = threshold->thresholds();
  } else if (const auto* const gated = dynamic_cast<const GatedDictionary*>(autoencoder)) {
    parts.log_magnitude = gated->log_magnitude();
    parts.magnitude_bias = gated->magnitude_bias();
  } else {
    fail("a dictionary of architecture {} selects its codes as no other tool does", dictionary.architecture());
  }
  return parts;
}

std::shared_ptr<Dictionary> put_together(DictionaryParts parts) {
  AutoencoderWeights& weights = parts.weights;
  for (torch::Tensor* const tensor : {&weights.encoder, &weights.encoder_bias, &weights.decoder, &weights.decoder_bias})
    *tensor = tensor->to(torch::kFloat).contiguous();
  if (parts.gated())
    return std::make_shared<GatedDictionary>(std::move(weights), parts.log_magnitude, parts.magnitude_bias, std::move(parts.config));
  if (parts.thresholds.defined())
    return std::make_shared<ThresholdDictionary>(std::move(weights), parts.thresholds, parts.architecture, std::move(parts.config));
  return std::make_shared<TopKDictionary>(std::move(weights), parts.k, std::move(parts.config));
}

void fold_input_scale(DictionaryParts& parts, double scale) {
  if (!(scale > 0) || !std::isfinite(scale)) fail("an input scale of {} cannot be folded into weights", scale);
  parts.weights.encoder = parts.weights.encoder * scale;
  parts.weights.decoder = parts.weights.decoder / scale;
  parts.weights.decoder_bias = parts.weights.decoder_bias / scale;
}

void fold_decoder_norms(DictionaryParts& parts) {
  const torch::Tensor exact = parts.weights.decoder.to(torch::kDouble).norm(2, {1});
  const torch::Tensor norms = torch::where(exact > 0, exact, torch::ones_like(exact)).to(torch::kFloat);
  if (parts.k > 0) {
    const double least = norms.min().item<double>(), most = norms.max().item<double>();
    if (most > least * (1 + 1e-5))
      fail("decoder norms of {:.6g} to {:.6g} cannot be folded: the k largest latents would be others; only atoms of equal norm can be",
           least, most);
  }
  const torch::Tensor by_row = norms.unsqueeze(1);
  parts.weights.decoder = parts.weights.decoder / by_row;
  parts.weights.encoder = parts.weights.encoder * by_row;
  parts.weights.encoder_bias = parts.weights.encoder_bias * norms;
  if (parts.thresholds.defined()) parts.thresholds = parts.thresholds * norms;
  if (parts.gated()) parts.magnitude_bias = parts.magnitude_bias * norms;
}

void fold_decoder_bias(DictionaryParts& parts) {
  const torch::Tensor shift = bias_in_latents(parts.weights);
  parts.weights.encoder_bias = sum(parts.weights.encoder_bias, shift);
  if (parts.gated()) parts.magnitude_bias = sum(parts.magnitude_bias, shift * parts.log_magnitude.to(torch::kDouble).exp());
}

torch::Tensor unfolded_encoder_bias(const DictionaryParts& parts) {
  return sum(parts.weights.encoder_bias, -bias_in_latents(parts.weights));
}

}  // namespace sememe
