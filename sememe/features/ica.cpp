#include "sememe/features/ica.h"

#include <algorithm>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/features/pca.h"

namespace sememe {
namespace {

constexpr int64_t kPartRows = 4096;            // whose sources exist at a time; sums over them are float32, over the parts float64
constexpr double kNegligibleVariance = 1e-10;  // of the largest; float32 rows are not more exact

/// (W W^T)^(-1/2) W: the orthogonal matrix nearest to W.
torch::Tensor decorrelated(const torch::Tensor& rows) {
  const auto [left, values, right] = torch::linalg_svd(rows, false);
  return torch::mm(left, right);
}

/// One step of the fixed point for all rows of the unmixing, not yet decorrelated.
torch::Tensor fixed_point_step(const torch::Tensor& whitened, const torch::Tensor& unmixing) {
  const torch::Tensor directions = unmixing.to(torch::kFloat).t().contiguous();
  torch::Tensor products = torch::zeros_like(unmixing), slopes = torch::zeros({unmixing.size(0)}, torch::kDouble);
  for (int64_t begin = 0; begin < whitened.size(0); begin += kPartRows) {
    const torch::Tensor some = whitened.narrow(0, begin, std::min(kPartRows, whitened.size(0) - begin));
    const torch::Tensor values = torch::mm(some, directions).tanh_();
    products += torch::mm(values.t(), some);
    slopes += (1.0 - values.square()).sum(0, false, torch::kDouble);
  }
  return (products - slopes.unsqueeze(1) * unmixing) / static_cast<double>(whitened.size(0));
}

}  // namespace

FastIca fast_ica(const torch::Tensor& whitened, const FastIcaOptions& options) {
  const torch::NoGradGuard no_autograd;
  const int64_t components = whitened.size(1);
  FastIca result{decorrelated(random_directions(components, components, options.seed, "ica/unmixing").to(torch::kDouble))};
  Progress progress("FastICA", options.iterations, "iterations");
  while (result.iterations < options.iterations) {
    const torch::Tensor next = decorrelated(fixed_point_step(whitened, result.unmixing));
    result.turned = (1.0 - (next * result.unmixing).sum(1).abs()).max().item<double>();
    result.unmixing = next;
    progress.update(++result.iterations, fmt::format("turned {:.1e}", result.turned));
    if (result.turned < options.tolerance) break;
    if (interrupted()) throw Interrupted("interrupted in FastICA; nothing was written");
  }
  return result;
}

AutoencoderWeights independent_components(const torch::Tensor& rows, int64_t components, const FastIcaOptions& options) {
  const torch::NoGradGuard no_autograd;
  RowMoments moments(rows.size(1));
  for (int64_t begin = 0; begin < rows.size(0); begin += kPartRows)
    moments.add(rows.narrow(0, begin, std::min(kPartRows, rows.size(0) - begin)));
  const PrincipalComponents principal = principal_components(moments.covariance(), components);
  const int64_t spanned = (principal.variances > kNegligibleVariance * principal.variances[0]).sum().item<int64_t>();
  if (spanned < components)
    fail("ica: the {} rows of the sample span {} dimensions, too few for {} components; give --latents {} or fewer", rows.size(0), spanned,
         components, 2 * spanned);
  const torch::Tensor deviations = principal.variances.sqrt().unsqueeze(1);
  const torch::Tensor whitening = principal.directions / deviations;
  const torch::Tensor shift = torch::mv(whitening, moments.mean());
  torch::Tensor whitened = torch::empty({rows.size(0), components});
  for (int64_t begin = 0; begin < rows.size(0); begin += kPartRows) {
    const int64_t count = std::min(kPartRows, rows.size(0) - begin);
    whitened.narrow(0, begin, count).copy_(torch::mm(rows.narrow(0, begin, count).to(torch::kDouble), whitening.t()) - shift);
  }
  const FastIca ica = fast_ica(whitened, options);
  if (ica.turned >= options.tolerance)
    note(fmt::format("FastICA had not settled after {} iterations: a direction still turned by {:.1e} (1 - |cosine|)", ica.iterations,
                     ica.turned));
  // Sources are W z with z whitened, so the mixing's columns are the rows of W taken back through the whitening.
  const torch::Tensor mixing = torch::mm(ica.unmixing, principal.directions * deviations);
  const torch::Tensor norms = mixing.norm(2, {1});
  const torch::Tensor order = norms.argsort(0, true), by_row = norms.unsqueeze(1);
  const torch::Tensor unmixing = torch::mm(ica.unmixing, whitening) * by_row;
  return weights_of_both_signs(unmixing.index_select(0, order), (mixing / by_row).index_select(0, order), moments.mean());
}

IcaLearner::IcaLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : options_(options),
      components_(count_components(options, "ica")),
      variance_(statistics.variance),
      sample_(torch::empty({kSampleRows, options.width})),
      rows_(torch::zeros({1}, torch::kLong)),
      step_(torch::zeros({1}, torch::kLong)) {}

AutoencoderWeights IcaLearner::fit() const {
  if (sampled() < options_.latents)
    fail("ica: {} rows are fewer than the {} latents; train on more --tokens or give fewer --latents", sampled(), options_.latents);
  return independent_components(sample_.narrow(0, 0, sampled()), components_, {.seed = options_.seed});
}

void IcaLearner::report_by(AutoencoderWeights weights) {
  reporting_ = std::make_shared<TopKDictionary>(std::move(weights), options_.k, Json::object(), "ica");
}

void IcaLearner::add_to_sample(const torch::Tensor& rows) {
  RandomStream stream(options_.seed, "ica/sample");
  const int64_t before = rows_.item<int64_t>();
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const int64_t seen = before + i;
    stream.seek(static_cast<uint64_t>(seen));  // a row's place depends on its number alone
    const int64_t place = seen < kSampleRows ? seen : static_cast<int64_t>(stream.below(static_cast<uint64_t>(seen) + 1));
    if (place < kSampleRows) sample_[place].copy_(rows[i]);
  }
  rows_ += rows.size(0);
}

StepReport IcaLearner::step(const ActivationRows& rows, double) {
  const torch::NoGradGuard no_autograd;
  const torch::Tensor& x = rows.activations;
  check_rows(x, options_.width);
  const int64_t done = step_.item<int64_t>(), measured = std::max<int64_t>(1, options_.steps / 20);
  const bool measures = options_.steps > 0 && done >= options_.steps - measured && sampled() >= options_.latents;
  if (measures && !fitted()) report_by(fit());
  if (!measures) add_to_sample(x);
  step_ += 1;
  StepReport report{.loss = 1.0, .fvu = 1.0};
  if (!fitted()) return report;
  const SparseCodes codes = reporting_->encode(x);
  const auto batch = static_cast<double>(x.size(0));
  report.fvu = report.loss = (x - reporting_->decode(codes)).square().sum(torch::kDouble).item<double>() / (batch * variance_);
  report.l0 = static_cast<double>(codes.values.numel()) / batch;
  check_loss(report.loss, done + 1);
  return report;
}

std::shared_ptr<Dictionary> IcaLearner::dictionary(const Json& origin) const {
  return std::make_shared<TopKDictionary>(fitted() ? reporting_->weights() : fit(), options_.k, origin, "ica");
}

NamedTensors IcaLearner::state() const {
  NamedTensors state{{"rows", rows_}, {"step", step_}, {"sample", sample_.narrow(0, 0, sampled())},
                     {"fitted", torch::full({1}, fitted() ? 1 : 0, torch::kLong)}};
  if (fitted())
    for (const auto& tensor : reporting_->weights().named("weights.")) state.push_back(tensor);
  return state;
}

void IcaLearner::restore(const SafetensorsFile& file) {
  const torch::Tensor fitted = torch::zeros({1}, torch::kLong);
  restore_tensors({{"rows", rows_}, {"step", step_}, {"fitted", fitted}}, file);
  if (rows_.item<int64_t>() < 0) fail("{}: \"rows\" cannot be {}", file.path().string(), rows_.item<int64_t>());
  restore_tensors({{"sample", sample_.narrow(0, 0, sampled())}}, file);
  reporting_ = nullptr;
  if (fitted.item<int64_t>() == 0) return;
  AutoencoderWeights weights = AutoencoderWeights::zeros(options_.latents, options_.width);
  restore_tensors(weights.named("weights."), file);
  report_by(std::move(weights));
}

std::unique_ptr<DictionaryLearner> learn_ica(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<IcaLearner>(options, statistics);
}

}  // namespace sememe
