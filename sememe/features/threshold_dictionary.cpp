#include "sememe/features/threshold_dictionary.h"

#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/tensor_codes.h"

namespace sememe {

ThresholdDictionary::ThresholdDictionary(AutoencoderWeights weights, torch::Tensor thresholds, std::string architecture, Json config)
    : Autoencoder(std::move(weights), std::move(config)), architecture_(std::move(architecture)) {
  if (thresholds.dim() != 1 || thresholds.size(0) != size())
    fail("{} thresholds of {} dimensions were given for {} latents", thresholds.numel(), thresholds.dim(), size());
  thresholds_ = thresholds.to(torch::kFloat).clamp_min(0.0).contiguous();
}

SparseCodes ThresholdDictionary::encode(const torch::Tensor& x) const {
  if (!x.is_cpu()) return encode_by_tensors(x);
  return encode_in_parts(x, [this](torch::Tensor& pre_activations, int64_t begin, SelectedCodes& codes) {
    select_above(pre_activations, pre_activations, thresholds_, begin, codes);
  });
}

SparseCodes ThresholdDictionary::select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor&, int64_t begin) const {
  return above_by_tensors(pre_activations, pre_activations, beside(pre_activations, thresholds_), begin);
}

std::shared_ptr<Dictionary> load_threshold(const Json& config, const SafetensorsFile& file) {
  AutoencoderWeights weights = AutoencoderWeights::load(config, file);
  torch::Tensor thresholds = load_weight(file, "threshold", {weights.latents()});
  return std::make_shared<ThresholdDictionary>(std::move(weights), std::move(thresholds),
                                               json_member<std::string>(config, "architecture", config_path(file)), config);
}

}  // namespace sememe
