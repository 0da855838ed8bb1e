#pragma once
// Gated dictionaries (Rajamanoharan et al. 2024, arXiv 2404.16014): one half of the encoder says which latents fire, the other how
// strongly. With p = (x - decoder_bias) encoder^T, code i is relu(p_i exp(log_magnitude_i) + magnitude_bias_i) where
// p_i + gate_bias_i > 0, else none.

#include "sememe/features/autoencoder.h"

namespace sememe {

class GatedDictionary : public Autoencoder {
 public:
  /// @param weights        encoder_bias is the gate's bias
  /// @param log_magnitude  [latents]
  /// @param magnitude_bias [latents]
  /// @throws Error if a shape does not fit
  GatedDictionary(AutoencoderWeights weights, torch::Tensor log_magnitude, torch::Tensor magnitude_bias, Json config);

  std::string architecture() const override { return "gated"; }
  using Dictionary::encode;
  /// @throws Error if x is not [n, width] or holds NaN
  SparseCodes encode(const torch::Tensor& x) const override;
  const torch::Tensor& log_magnitude() const { return log_magnitude_; }
  const torch::Tensor& magnitude_bias() const { return magnitude_bias_; }

 protected:
  SparseCodes select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& gradients, int64_t begin) const override;
  NamedTensors own_tensors() const override {
    return {{"log_magnitude", log_magnitude_}, {"magnitude_bias", magnitude_bias_}};
  }

 private:
  torch::Tensor log_magnitude_, magnitude_bias_;
  torch::Tensor factor_, offset_;  // the magnitude as a function of the gate's pre-activation
};

std::shared_ptr<Dictionary> load_gated(const Json& config, const SafetensorsFile& file);

}  // namespace sememe
