#include "sememe/features/gradient_top_k.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/features/tensor_codes.h"
#include "sememe/features/tensor_top_k.h"

namespace sememe {
namespace {

/// Rows of a batch whose influence is measured for "batch-mean": enough for a mean over all latents, and a small part of the work.
constexpr int64_t kMeasuredRows = 64;

}  // namespace

void check_selection(const GradientSelection& selection) {
  if (!(selection.beta >= 0) || !std::isfinite(selection.beta)) fail_usage("--beta {}: give a number of at least 0", selection.beta);
  if (selection.score != "additive" && selection.score != "product")
    fail_usage("--score {}: choose additive or product", selection.score);
  if (selection.scaling != "batch-mean" && selection.scaling != "raw")
    fail_usage("--gradient-scaling {}: choose batch-mean or raw", selection.scaling);
}

kernels::TopKOptions selection_options(const GradientSelection& selection, int64_t k, double influence_mean) {
  kernels::TopKOptions options{.k = k};
  options.score =
      selection.score == "product" ? kernels::SelectionScore::kProduct : kernels::SelectionScore::kAdditive;
  // beta (g / mean) = (beta / mean) g saves a pass over g. Without any influence (mean 0) selection is plain.
  const double divisor = selection.scaling == "raw" ? 1.0 : influence_mean;
  options.beta = divisor > 0 ? static_cast<float>(selection.beta / divisor) : 0.0f;
  if (!std::isfinite(options.beta)) options.beta = 0.0f;
  return options;
}

double measure_influence(const torch::Tensor& gradients, const torch::Tensor& decoder) {
  const torch::Tensor measured = gradients.narrow(0, 0, std::min(kMeasuredRows, gradients.size(0)));
  return torch::mm(measured, decoder.t()).abs_().mean(torch::kDouble).item<double>();
}

void follow_influence(double mean, torch::Tensor& running) {
  double& kept = *running.data_ptr<double>();
  kept = kept == 0.0 ? mean : 0.99 * kept + 0.01 * mean;
}

GradientTopKDictionary::GradientTopKDictionary(AutoencoderWeights weights, int64_t k, GradientSelection selection,
                                               double influence_mean, Json config)
    : TopKDictionary(std::move(weights), k, std::move(config)),
      selection_(std::move(selection)),
      influence_mean_(influence_mean),
      decoder_(weights_.decoder) {
  check_selection(selection_);
}

SparseCodes GradientTopKDictionary::encode(const torch::Tensor& x, const torch::Tensor& gradients) const {
  if (!gradients.defined() || gradients.sizes() != x.sizes())
    fail("gradients and activations differ in shape; selection needs one gradient row for each activation row");
  if (!x.is_cpu()) return encode_by_tensors(x, gradients.to(x.device()));
  return select(x, gradients.to(torch::kCPU, torch::kFloat), &decoder_, selection_options(selection_, k(), influence_mean_));
}

SparseCodes GradientTopKDictionary::select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& gradients,
                                                      int64_t begin) const {
  if (!gradients.defined()) return TopKDictionary::select_by_tensors(pre_activations, gradients, begin);
  const torch::Tensor influence = torch::mm(gradients, beside(gradients, weights_.decoder).t()).abs_();
  return top_k_by_tensors(pre_activations, influence, selection_options(selection_, k(), influence_mean_), begin);
}

Json GradientTopKDictionary::settings() const {
  Json settings = TopKDictionary::settings();
  settings["beta"] = selection_.beta;
  settings["score"] = selection_.score;
  settings["gradient_scaling"] = selection_.scaling;
  settings["influence_mean"] = influence_mean_;
  return settings;
}

GradientTopKLearner::GradientTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : TopKLearner(options, statistics), decoder_(weights_.decoder), influence_mean_(torch::zeros({1}, torch::kDouble)) {
  check_selection(options.gradient);
}

void GradientTopKLearner::select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) {
  if (!rows.gradients.defined()) fail("g-SAE needs gradients; capture with --gradients");
  double mean = measure_influence(rows.gradients, weights_.decoder);
  const RankGrid& ranks = options_.ranks;
  if (!ranks.all.alone()) {  // of all latents, on the rows that come first in the whole batch
    mean *= static_cast<double>(shard().count) / static_cast<double>(options_.latents);
    ranks.latents.sum(std::span(&mean, 1));
    ranks.rows.copy_from_first(std::span(&mean, 1));
  }
  follow_influence(mean, influence_mean_);
  select_screened(centred, encoder(), weights_.encoder_bias, rows.gradients, &decoder_,
                  selection_options(options_.gradient, std::min(k, shard().count), influence_mean_.item<double>()), codes);
  keep_largest_of_row(codes, k, shard().begin, ranks.latents);
}

void GradientTopKLearner::refresh(int64_t latent) {
  TopKLearner::refresh(latent);
  decoder_.refresh(latent);
}

std::shared_ptr<Dictionary> GradientTopKLearner::dictionary(const Json& origin) const {
  return std::make_shared<GradientTopKDictionary>(unscaled_weights(), options_.k, options_.gradient,
                                                  influence_mean_.item<double>(), origin);
}

NamedTensors GradientTopKLearner::state() const {
  NamedTensors state = TopKLearner::state();
  state.emplace_back("influence_mean", influence_mean_);
  return state;
}

std::shared_ptr<Dictionary> load_gradient_top_k(const Json& config, const SafetensorsFile& file) {
  const std::string where = config_path(file);
  const GradientSelection selection{json_member<double>(config, "beta", where), json_member<std::string>(config, "score", where),
                                    json_member<std::string>(config, "gradient_scaling", where)};
  try {
    check_selection(selection);
  } catch (const UsageError& error) {  // not an option here, but a file
    fail("{}: {}", where, error.what());
  }
  AutoencoderWeights weights = AutoencoderWeights::load(config, file);
  const int64_t k = load_k(config, file, weights.latents());
  return std::make_shared<GradientTopKDictionary>(std::move(weights), k, selection,
                                                  json_member<double>(config, "influence_mean", where), config);
}

std::unique_ptr<DictionaryLearner> learn_gradient_top_k(const LearnerOptions& options, const ActivationStatistics& statistics) {
  if (!options.device.is_cpu()) return learn_by_tensors("gsae", options, statistics);
  return std::make_unique<GradientTopKLearner>(options, statistics);
}

}  // namespace sememe
