#include "sememe/features/kmeans.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/features/top_k.h"
#include "sememe/kernels/sparse_gradients.h"

namespace sememe {
namespace {

constexpr double kFading = 4.0;         // half of a cluster's sum is from the last eighth of the run
constexpr double kSameDirection = 1e-6;  // a row of a smaller share of error points as a centroid does, but for rounding

}  // namespace

KMeansLearner::KMeansLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : options_(options),
      variance_(statistics.variance),
      centre_(statistics.median.clone()),
      centroids_(torch::zeros({options.latents, options.width})),
      sums_(torch::zeros({options.latents, options.width})),
      rows_since_selected_(torch::full({options.latents}, options.dead_after, torch::kLong)),
      step_(torch::zeros({1}, torch::kLong)),
      screened_(centroids_) {}

StepReport KMeansLearner::step(const ActivationRows& rows, double) {
  const torch::NoGradGuard no_autograd;
  check_rows(rows.activations, options_.width);
  const torch::Tensor centred = (rows.activations - centre_).contiguous();
  select_screened(centred, screened_, torch::zeros({options_.latents}), {}, nullptr, {.k = 1}, codes_);
  torch::Tensor nearest = torch::empty_like(centred);
  decode_codes(codes_.view(), centroids_, {}, nearest);
  const torch::Tensor errors = (centred - nearest).square().sum(1);
  const auto batch = static_cast<double>(centred.size(0));
  StepReport report;
  report.fvu = report.loss = errors.sum(torch::kDouble).item<double>() / (batch * variance_);
  report.l0 = static_cast<double>(codes_.values.size()) / batch;
  check_loss(report.loss, steps_done() + 1);
  move_centroids(centred);
  begin_empty_clusters(centred, errors);
  report.dead = static_cast<int64_t>(empty_clusters().size());
  step_ += 1;
  return report;
}

void KMeansLearner::move_centroids(const torch::Tensor& centred) {
  const auto done = static_cast<double>(steps_done());
  sums_ *= std::pow(done / (done + 1.0), kFading);
  kernels::add_atom_gradients(kernels::columns_of(codes_.view(), options_.latents), codes_.values.data(), centred.data_ptr<float>(),
                              options_.width, sums_.data_ptr<float>());
  rows_since_selected_ += centred.size(0);
  std::vector<int32_t> moved = codes_.atoms;
  std::sort(moved.begin(), moved.end());
  moved.erase(std::unique(moved.begin(), moved.end()), moved.end());
  for (const int32_t latent : moved) {
    const torch::Tensor sum = sums_[latent];
    const double norm = sum.norm().item<double>();
    if (norm > 0) centroids_[latent].copy_(sum / norm);
    screened_.refresh(latent);
    rows_since_selected_[latent] = 0;
  }
}

std::vector<int64_t> KMeansLearner::empty_clusters() const {
  std::vector<int64_t> empty;
  const int64_t* const since = rows_since_selected_.data_ptr<int64_t>();
  for (int64_t latent = 0; latent < options_.latents; ++latent)
    if (since[latent] >= options_.dead_after) empty.push_back(latent);
  return empty;
}

/// @param errors [batch] ||y - nearest||^2
void KMeansLearner::begin_empty_clusters(const torch::Tensor& centred, torch::Tensor errors) {
  const torch::Tensor squares = centred.square().sum(1);
  RandomStream stream(options_.seed, fmt::format("kmeans/begin/{}", steps_done()));
  for (const int64_t latent : empty_clusters()) {
    const torch::Tensor sums = torch::where(errors > kSameDirection * squares, errors, 0.0).cumsum(0, torch::kDouble);
    const double total = sums[-1].item<double>();
    if (total == 0.0) return;
    const torch::Tensor drawn = torch::full({1}, stream.uniform() * total, torch::kDouble);
    const int64_t row = std::min(torch::searchsorted(sums, drawn, false, true).item<int64_t>(), centred.size(0) - 1);
    const torch::Tensor y = centred[row];
    const double norm = y.norm().item<double>();
    centroids_[latent].copy_(y / norm);
    sums_[latent].copy_(y * norm);
    screened_.refresh(latent);
    rows_since_selected_[latent] = 0;
    errors = torch::minimum(errors, squares - torch::mv(centred, centroids_[latent]).clamp_min(0.0).square());
  }
}

std::shared_ptr<Dictionary> KMeansLearner::dictionary(const Json& origin) const {
  const int64_t begun = (centroids_.norm(2, {1}) > 0).sum().item<int64_t>();
  if (begun < options_.latents)
    fail("kmeans: only {} of {} clusters have begun, as the rows of {} steps point in no more directions; train on more --tokens or give "
         "fewer --latents", begun, options_.latents, steps_done());
  const AutoencoderWeights weights{centroids_.clone(), torch::zeros({options_.latents}), centroids_.clone(), centre_.clone()};
  return std::make_shared<TopKDictionary>(weights, 1, origin, "kmeans");
}

NamedTensors KMeansLearner::state() const {
  return {{"centroids", centroids_}, {"sums", sums_}, {"rows_since_selected", rows_since_selected_}, {"step", step_}};
}

void KMeansLearner::restore(const SafetensorsFile& file) {
  restore_tensors(state(), file);
  screened_.refresh_all();
}

std::unique_ptr<DictionaryLearner> learn_kmeans(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<KMeansLearner>(options, statistics);
}

}  // namespace sememe
