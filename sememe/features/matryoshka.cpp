#include "sememe/features/matryoshka.h"

#include <algorithm>
#include <functional>

#include "sememe/base/error.h"
#include "sememe/features/tensor_top_k.h"

namespace sememe {

std::vector<int64_t> matryoshka_prefixes(const LearnerOptions& options) {
  std::vector<int64_t> prefixes = options.prefixes.value_or(std::vector<int64_t>());
  if (!options.prefixes)
    for (const int64_t part : {16, 8, 4, 2, 1}) {
      const int64_t prefix = options.latents / part;
      if (prefix > (prefixes.empty() ? 0 : prefixes.back())) prefixes.push_back(prefix);
    }
  const bool ascends = std::adjacent_find(prefixes.begin(), prefixes.end(), std::greater_equal<>()) == prefixes.end();
  if (prefixes.empty() || !ascends || prefixes.front() < 1 || prefixes.back() != options.latents)
    fail_usage("--prefixes {}: give ascending numbers of latents, at least 1, the last of them all {}", fmt::join(prefixes, ","),
               options.latents);
  return prefixes;
}

MatryoshkaLearner::MatryoshkaLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : BatchTopKLearner(options, statistics), prefixes_(matryoshka_prefixes(options)), groups_(prefixes_.size()) {}

void MatryoshkaLearner::split(const SelectedCodes& codes) {
  for (SelectedCodes& group : groups_) group = {{0}, {}, {}, {}};
  for (int64_t row = 0; row < codes.rows(); ++row) {
    int64_t entry = codes.offsets[row];
    for (size_t i = 0; i < groups_.size(); ++i) {  // atoms ascend within a row
      for (; entry < codes.offsets[row + 1] && shard().begin + codes.atoms[entry] < prefixes_[i]; ++entry) {
        groups_[i].atoms.push_back(codes.atoms[entry]);
        groups_[i].values.push_back(codes.values[entry]);
      }
      groups_[i].offsets.push_back(static_cast<int64_t>(groups_[i].atoms.size()));
    }
  }
}

TopKLearner::Reconstruction MatryoshkaLearner::add_reconstruction(const SelectedCodes& codes, const torch::Tensor& x, double weight) {
  split(codes);
  std::vector<torch::Tensor> errors;
  double squares = 0.0;
  torch::Tensor part = torch::empty_like(x);
  for (size_t i = 0; i < groups_.size(); ++i) {
    decode_all_shards(groups_[i], i == 0, part);
    errors.push_back((i == 0 ? x : errors.back()) - part);
    squares += errors.back().square().sum().item<double>();
  }
  // A latent is part of its own prefix and of all longer ones.
  torch::Tensor to_reconstructions = torch::zeros_like(x);
  for (size_t i = groups_.size(); i-- > 0;) {
    to_reconstructions = torch::add(to_reconstructions, errors[i], -2.0 * weight);
    add_term(groups_[i], to_reconstructions);
  }
  return {squares, errors.back(), to_reconstructions.sum(0)};
}

std::unique_ptr<DictionaryLearner> learn_matryoshka(const LearnerOptions& options, const ActivationStatistics& statistics) {
  if (!options.device.is_cpu()) return learn_by_tensors("matryoshka", options, statistics);
  return std::make_unique<MatryoshkaLearner>(options, statistics);
}

}  // namespace sememe
