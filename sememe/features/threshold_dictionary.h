#pragma once
// Dictionaries whose latents fire above a threshold of their own, whatever the other latents do: code i is u_i where u_i > threshold_i
// and u_i > 0, else none. ReLU is a threshold of 0, JumpReLU any (Rajamanoharan et al. 2024, arXiv 2407.14435), BatchTopK and
// Matryoshka dictionaries one for all.

#include "sememe/features/autoencoder.h"

namespace sememe {

class ThresholdDictionary : public Autoencoder {
 public:
  /// @param thresholds   [latents] finite; one below 0 counts as 0
  /// @param architecture the name in the registry under which it was learnt
  /// @throws Error if the thresholds have another shape
  ThresholdDictionary(AutoencoderWeights weights, torch::Tensor thresholds, std::string architecture, Json config);

  std::string architecture() const override { return architecture_; }
  using Dictionary::encode;
  /// @throws Error if x is not [n, width] or holds NaN
  SparseCodes encode(const torch::Tensor& x) const override;
  const torch::Tensor& thresholds() const { return thresholds_; }

 protected:
  SparseCodes select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& gradients, int64_t begin) const override;
  NamedTensors own_tensors() const override { return {{"threshold", thresholds_}}; }

 private:
  torch::Tensor thresholds_;
  std::string architecture_;
};

std::shared_ptr<Dictionary> load_threshold(const Json& config, const SafetensorsFile& file);

}  // namespace sememe
