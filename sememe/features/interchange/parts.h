#pragma once
// A dictionary taken apart into what every tool stores, each under its own names: four tensors, and how codes are selected. Here are also
// the changes that tools make to weights without changing what a dictionary does.

#include <memory>
#include <string>

#include "sememe/features/autoencoder_weights.h"
#include "sememe/features/dictionary.h"

namespace sememe {

struct DictionaryParts {
  AutoencoderWeights weights;
  std::string architecture;      ///< the name in the registry
  int64_t k = 0;                 ///< latents of a row, where the k largest are selected; else 0
  torch::Tensor thresholds{};  ///< [latents] where each latent has one; else undefined
  torch::Tensor log_magnitude{};  ///< [latents] where latents are gated; else undefined
  torch::Tensor magnitude_bias{};  ///< [latents] likewise
  Json config = Json::object();  ///< what config.json says besides: "site", "model", "origin"

  bool gated() const { return log_magnitude.defined(); }
};

/// @throws Error for a kind of dictionary that is no Autoencoder
DictionaryParts take_apart(const Dictionary& dictionary);
std::shared_ptr<Dictionary> put_together(DictionaryParts parts);

/// Makes a dictionary of inputs times `scale` one of the inputs themselves: encoder * scale, decoder / scale, decoder_bias / scale. Codes
/// stay what they were.
/// @throws Error unless the scale is finite and positive
void fold_input_scale(DictionaryParts& parts, double scale);

/// Gives every atom norm 1 and its norm r to the code: decoder / r, and encoder, its bias, thresholds and magnitudes * r. No
/// reconstruction changes. A zero atom stays zero. Must come after fold_input_scale, which changes r.
/// @throws Error where the k largest latents are selected and norms differ, as other latents would be
void fold_decoder_norms(DictionaryParts& parts);

/// Inputs enter the encoder with decoder_bias subtracted, here and in some tools; others do not subtract it. These move what it makes of
/// pre-activations, encoder decoder_bias, into the encoder's bias and out of it.
void fold_decoder_bias(DictionaryParts& parts);
/// @return the bias that an encoder needs which is given inputs as they are, [latents]
torch::Tensor unfolded_encoder_bias(const DictionaryParts& parts);

}  // namespace sememe
