#pragma once
// The four tensors of a sparse autoencoder, which all kinds of dictionary here share. With x an input row, its pre-activations are
// u = (x - decoder_bias) encoder^T + encoder_bias; a code f made from them stands for f decoder + decoder_bias.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "sememe/base/json.h"
#include "sememe/network/tensors.h"

namespace sememe {

/// float32, contiguous.
struct AutoencoderWeights {
  torch::Tensor encoder;       ///< [latents, width]
  torch::Tensor encoder_bias;  ///< [latents]
  torch::Tensor decoder;       ///< [latents, width]
  torch::Tensor decoder_bias;  ///< [width]

  int64_t latents() const { return encoder.size(0); }
  int64_t width() const { return encoder.size(1); }
  static AutoencoderWeights zeros(int64_t latents, int64_t width);
  /// Sizes from the keys "latents" and "width" of the config.
  /// @throws Error naming file, key and tensor
  static AutoencoderWeights load(const Json& config, const SafetensorsFile& file);
  /// These where they are on the device already, else a copy.
  AutoencoderWeights to(torch::Device device) const;
  /// The four tensors under `prefix` + their names.
  NamedTensors named(const std::string& prefix = "") const;
};

/// What a learner by hand-written gradients saves of its weights and of Adam's moments, under the names of a checkpoint.
NamedTensors named_with_moments(const AutoencoderWeights& weights, const AutoencoderWeights& first_moments,
                                const AutoencoderWeights& second_moments);

/// The config.json beside a dictionary's tensors, for messages.
std::string config_path(const SafetensorsFile& file);

/// Random rows of norm 1, the same for the same seed and name: rows `first` and after of as many as one likes. -> [rows, width]
torch::Tensor random_directions(int64_t rows, int64_t width, uint64_t seed, std::string_view name, int64_t first = 0);

/// @throws Error unless x is [n, width]
void check_inputs(const torch::Tensor& x, int64_t width);

}  // namespace sememe
