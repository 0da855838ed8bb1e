#pragma once
// A semi-NMF as a dictionary: atoms are its features, the code of a row its coefficients for them.

#include "sememe/features/dictionary.h"
#include "sememe/features/learner.h"
#include "sememe/features/semi_nmf.h"

namespace sememe {

class SemiNmfDictionary : public Dictionary {
 public:
  /// @param features [features, width]
  /// @param config what save() writes besides architecture and sizes, e.g. where the rows come from
  SemiNmfDictionary(torch::Tensor features, Json config);

  std::string architecture() const override { return "snmf"; }
  int64_t size() const override { return features_.size(0); }
  int64_t width() const override { return features_.size(1); }
  using Dictionary::encode;
  /// Coefficients above a thousandth of the row's largest: the multiplicative step nears 0 without reaching it.
  SparseCodes encode(const torch::Tensor& x) const override;
  torch::Tensor decode(const SparseCodes& codes) const override;
  torch::Tensor atoms() const override { return features_; }
  void save(const std::filesystem::path& folder) const override;

 private:
  torch::Tensor features_;
  Json config_;
};

std::shared_ptr<Dictionary> load_semi_nmf(const Json& config, const SafetensorsFile& file);
/// @throws UsageError: it is not learnt step by step, but by `sememe dictionary factorize`
std::unique_ptr<DictionaryLearner> learn_semi_nmf(const LearnerOptions& options, const ActivationStatistics& statistics);

}  // namespace sememe
