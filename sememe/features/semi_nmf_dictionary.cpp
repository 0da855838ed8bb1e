#include "sememe/features/semi_nmf_dictionary.h"

#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/autoencoder_weights.h"
#include "sememe/features/sparse_codes.h"
#include "sememe/network/tensors.h"

namespace sememe {
namespace {

constexpr float kNegligible = 1e-3f;  // of the row's largest coefficient

}  // namespace

SemiNmfDictionary::SemiNmfDictionary(torch::Tensor features, Json config)
    : features_(std::move(features)), config_(std::move(config)) {}

SparseCodes SemiNmfDictionary::encode(const torch::Tensor& x) const {
  check_inputs(x, width());
  const torch::NoGradGuard no_autograd;
  const torch::Tensor coefficients = semi_nmf_coefficients(x.to(torch::kCPU, torch::kFloat), features_);
  const torch::Tensor kept = coefficients > kNegligible * std::get<0>(coefficients.max(1, true));
  const torch::Tensor places = kept.nonzero();
  torch::Tensor offsets = torch::zeros({x.size(0) + 1}, torch::kLong);
  offsets.narrow(0, 1, x.size(0)).copy_(kept.sum(1).cumsum(0));
  return {offsets, places.select(1, 1).to(torch::kInt).contiguous(), coefficients.masked_select(kept)};
}

torch::Tensor SemiNmfDictionary::decode(const SparseCodes& codes) const { return decode_sparse(codes, features_, {}); }

void SemiNmfDictionary::save(const std::filesystem::path& folder) const {
  Json config = config_;
  config["architecture"] = architecture();
  config["latents"] = size();
  config["width"] = width();
  save_tensors(folder / "dictionary.safetensors", {{"features", features_}});
  write_json(folder / "config.json", config);
}

std::shared_ptr<Dictionary> load_semi_nmf(const Json& config, const SafetensorsFile& file) {
  const std::string where = config_path(file);
  const auto latents = json_member<int64_t>(config, "latents", where), width = json_member<int64_t>(config, "width", where);
  if (latents < 1 || width < 1) fail("{}: latents {} and width {} cannot be", where, latents, width);
  return std::make_shared<SemiNmfDictionary>(load_weight(file, "features", {latents, width}), config);
}

std::unique_ptr<DictionaryLearner> learn_semi_nmf(const LearnerOptions&, const ActivationStatistics&) {
  fail_usage("--architecture snmf: is learnt from all rows at once; use sememe dictionary factorize");
}

}  // namespace sememe
