#include "sememe/features/gated_dictionary.h"

#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/tensor_codes.h"

namespace sememe {

GatedDictionary::GatedDictionary(AutoencoderWeights weights, torch::Tensor log_magnitude, torch::Tensor magnitude_bias, Json config)
    : Autoencoder(std::move(weights), std::move(config)),
      log_magnitude_(log_magnitude.to(torch::kFloat).contiguous()),
      magnitude_bias_(magnitude_bias.to(torch::kFloat).contiguous()) {
  for (const torch::Tensor& each : {log_magnitude_, magnitude_bias_})
    if (each.dim() != 1 || each.size(0) != size())
      fail("{} magnitudes of {} dimensions were given for {} latents", each.numel(), each.dim(), size());
  factor_ = log_magnitude_.exp();
  offset_ = magnitude_bias_ - weights_.encoder_bias * factor_;
}

SparseCodes GatedDictionary::encode(const torch::Tensor& x) const {
  if (!x.is_cpu()) return encode_by_tensors(x);
  return encode_in_parts(x, [this](torch::Tensor& gates, int64_t begin, SelectedCodes& codes) {
    select_above(gates, torch::addcmul(offset_, gates, factor_), torch::zeros({size()}), begin, codes);
  });
}

SparseCodes GatedDictionary::select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor&, int64_t begin) const {
  const torch::Tensor values = torch::addcmul(beside(pre_activations, offset_), pre_activations, beside(pre_activations, factor_));
  return above_by_tensors(pre_activations, values, torch::zeros({size()}, pre_activations.options()), begin);
}

std::shared_ptr<Dictionary> load_gated(const Json& config, const SafetensorsFile& file) {
  AutoencoderWeights weights = AutoencoderWeights::load(config, file);
  const int64_t latents = weights.latents();
  return std::make_shared<GatedDictionary>(std::move(weights), load_weight(file, "log_magnitude", {latents}),
                                           load_weight(file, "magnitude_bias", {latents}), config);
}

}  // namespace sememe
