#include "sememe/features/pca.h"

#include <bit>

#include "sememe/base/error.h"

namespace sememe {

RowMoments::RowMoments(int64_t width)
    : rows_(torch::zeros({1}, torch::kLong)),
      mean_(torch::zeros({width}, torch::kDouble)),
      scatter_(torch::zeros({width, width}, torch::kDouble)) {}

void RowMoments::add(const torch::Tensor& rows) {
  const torch::Tensor batch = rows.to(torch::kDouble), mean = batch.mean(0), centred = batch - mean, apart = mean - mean_;
  const auto before = static_cast<double>(this->rows()), more = static_cast<double>(batch.size(0)), now = before + more;
  scatter_ += torch::mm(centred.t(), centred) + torch::outer(apart, apart) * (before * more / now);
  mean_ += apart * (more / now);
  rows_ += batch.size(0);
}

PrincipalComponents principal_components(const torch::Tensor& covariance, int64_t count) {
  const auto [variances, vectors] = torch::linalg_eigh(covariance);  // rising, in columns
  return {vectors.t().flip(0).narrow(0, 0, count).contiguous(), variances.flip(0).narrow(0, 0, count).clamp_min(0.0)};
}

int64_t count_components(const LearnerOptions& options, std::string_view architecture) {
  if (options.latents > 2 * options.width)
    fail_usage("--latents {}: --architecture {} has at most as many components as rows have numbers, {}, each of them two latents, one for "
               "each sign; give at most {}", options.latents, architecture, options.width, 2 * options.width);
  if (options.latents % 2 != 0)
    fail_usage("--latents {}: each component of --architecture {} is two latents, one for each sign; give an even number", options.latents,
               architecture);
  return options.latents / 2;
}

AutoencoderWeights weights_of_both_signs(const torch::Tensor& encoder, const torch::Tensor& decoder, const torch::Tensor& mean) {
  const auto both = [](const torch::Tensor& rows) { return torch::stack({rows, -rows}, 1).flatten(0, 1).to(torch::kFloat); };
  return {both(encoder), torch::zeros({2 * encoder.size(0)}), both(decoder), mean.to(torch::kFloat)};
}

PcaLearner::PcaLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : options_(options),
      components_(count_components(options, "pca")),
      variance_(statistics.variance),
      moments_(options.width),
      step_(torch::zeros({1}, torch::kLong)),
      reported_(AutoencoderWeights::zeros(options.latents, options.width)) {}

std::shared_ptr<TopKDictionary> PcaLearner::fit(const Json& origin) const {
  const torch::Tensor directions = principal_components(moments_.covariance(), components_).directions;
  return std::make_shared<TopKDictionary>(weights_of_both_signs(directions, directions, moments_.mean()), options_.k, origin, "pca");
}

StepReport PcaLearner::step(const ActivationRows& rows, double) {
  const torch::NoGradGuard no_autograd;
  const torch::Tensor& x = rows.activations;
  check_rows(x, options_.width);
  moments_.add(x);
  step_ += 1;
  if (std::has_single_bit(static_cast<uint64_t>(step_.item<int64_t>()))) {
    reporting_ = fit(Json::object());
    reported_ = reporting_->weights();
  }
  const SparseCodes codes = reporting_->encode(x);
  const auto batch = static_cast<double>(x.size(0));
  StepReport report;
  report.fvu = report.loss = (x - reporting_->decode(codes)).square().sum(torch::kDouble).item<double>() / (batch * variance_);
  report.l0 = static_cast<double>(codes.values.numel()) / batch;
  check_loss(report.loss, step_.item<int64_t>());
  return report;
}

std::shared_ptr<Dictionary> PcaLearner::dictionary(const Json& origin) const {
  if (moments_.rows() < options_.latents)
    fail("pca: {} rows are fewer than the {} latents; train on more --tokens or give fewer --latents", moments_.rows(), options_.latents);
  const double variance = moments_.covariance().trace().item<double>();
  if (!(variance > 1e-12 * moments_.mean().square().sum().item<double>()))
    fail("pca: the rows are all the same; there is nothing to learn from them");
  return fit(origin);
}

NamedTensors PcaLearner::state() const {
  NamedTensors state = moments_.state();
  state.emplace_back("step", step_);
  for (const auto& tensor : reported_.named("reported.")) state.push_back(tensor);
  return state;
}

void PcaLearner::restore(const SafetensorsFile& file) {
  reported_ = AutoencoderWeights::zeros(options_.latents, options_.width);  // the old are those of a dictionary, which does not change
  restore_tensors(state(), file);
  reporting_ = std::make_shared<TopKDictionary>(reported_, options_.k, Json::object(), "pca");
}

std::unique_ptr<DictionaryLearner> learn_pca(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<PcaLearner>(options, statistics);
}

}  // namespace sememe
