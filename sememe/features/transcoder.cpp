#include "sememe/features/transcoder.h"

#include "sememe/base/error.h"

namespace sememe {
namespace {

const LearnerOptions& checked(const LearnerOptions& options) {
  if (options.parts.size() != 2)
    fail_usage("--architecture transcoder: takes activations of two sites; capture with --site READ+WRITTEN, as "
               "blocks.1.mlp.input+blocks.1.mlp");
  return options;
}

}  // namespace

TranscoderLearner::TranscoderLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : ReluLearner(checked(options), statistics),
      read_{0, options.parts[0]},
      written_{options.parts[0], options.parts[1]} {
  const ActivationStatistics::Part& part = statistics.parts[1];
  set_variance(part.variance * static_cast<double>(part.width) / (part.mean_norm * part.mean_norm));
  const torch::NoGradGuard no_autograd;
  weights_.encoder.narrow(1, written_.begin, written_.count).zero_();
  weights_.decoder.narrow(1, read_.begin, read_.count).zero_();
}

AutogradLearner::Terms TranscoderLearner::terms(const torch::Tensor& x, const torch::Tensor&) {
  const auto columns = [](const torch::Tensor& rows, const Columns& some) { return rows.narrow(-1, some.begin, some.count); };
  const torch::Tensor centred = columns(x, read_) - columns(weights_.decoder_bias, read_);
  const torch::Tensor codes = torch::addmm(weights_.encoder_bias, centred, columns(weights_.encoder, read_).t()).relu();
  const torch::Tensor error =
      columns(x, written_) - torch::addmm(columns(weights_.decoder_bias, written_), codes, columns(weights_.decoder, written_));
  return {error.square().sum(1).mean() + sparsity() * torch::mv(codes, atom_sizes()).mean(), codes, error};
}

std::shared_ptr<Dictionary> TranscoderLearner::dictionary(const Json& origin) const {
  Json with_columns = origin;
  with_columns["written"] = {written_.begin, written_.count};
  return ReluLearner::dictionary(with_columns);
}

std::unique_ptr<DictionaryLearner> learn_transcoder(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<TranscoderLearner>(options, statistics);
}

}  // namespace sememe
