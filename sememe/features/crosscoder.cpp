#include "sememe/features/crosscoder.h"

#include "sememe/base/error.h"

namespace sememe {

CrosscoderLearner::CrosscoderLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : ReluLearner(options, statistics) {
  if (options.parts.size() < 2)
    fail_usage("--architecture crosscoder: takes activations of at least two sites; capture with --site FIRST+SECOND");
}

torch::Tensor CrosscoderLearner::atom_sizes() const {
  torch::Tensor sizes = torch::zeros({options_.latents}, options_.device);
  int64_t begin = 0;
  for (const int64_t width : options_.parts) {
    sizes = sizes + weights_.decoder.narrow(1, begin, width).norm(2, {1});
    begin += width;
  }
  return sizes;
}

std::unique_ptr<DictionaryLearner> learn_crosscoder(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<CrosscoderLearner>(options, statistics);
}

}  // namespace sememe
