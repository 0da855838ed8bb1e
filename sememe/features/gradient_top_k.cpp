#include "sememe/features/gradient_top_k.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "sememe/base/error.h"

namespace sememe {
namespace {

/// @throws UsageError naming the option
void check_selection(const GradientSelection& selection) {
  if (!(selection.beta >= 0) || !std::isfinite(selection.beta)) fail_usage("--beta {}: give a number of at least 0", selection.beta);
  if (selection.score != "additive" && selection.score != "product")
    fail_usage("--score {}: choose additive or product", selection.score);
  if (selection.scaling != "batch-mean" && selection.scaling != "raw")
    fail_usage("--gradient-scaling {}: choose batch-mean or raw", selection.scaling);
}

/// Rows of a batch whose influence is measured for "batch-mean": enough for a mean over all latents, and a small part of the work.
constexpr int64_t kMeasuredRows = 64;

kernels::TopKOptions kernel_options(const GradientSelection& selection, int64_t k, double mean) {
  kernels::TopKOptions options{.k = k};
  options.score =
      selection.score == "product" ? kernels::SelectionScore::kProduct : kernels::SelectionScore::kAdditive;
  // beta (g / mean) = (beta / mean) g saves a pass over g. Without any influence (mean 0) selection is plain.
  const double divisor = selection.scaling == "raw" ? 1.0 : mean;
  options.beta = divisor > 0 ? static_cast<float>(selection.beta / divisor) : 0.0f;
  if (!std::isfinite(options.beta)) options.beta = 0.0f;
  return options;
}

}  // namespace

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
  return select(x, gradients.to(torch::kCPU, torch::kFloat), &decoder_, kernel_options(selection_, k(), influence_mean_));
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
  const torch::Tensor measured = rows.gradients.narrow(0, 0, std::min(kMeasuredRows, rows.gradients.size(0)));
  double mean = torch::mm(measured, weights_.decoder.t()).abs_().mean(torch::kDouble).item<double>();
  const RankGrid& ranks = options_.ranks;
  if (!ranks.all.alone()) {  // of all latents, on the rows that come first in the whole batch
    mean *= static_cast<double>(shard().count) / static_cast<double>(options_.latents);
    ranks.latents.sum(std::span(&mean, 1));
    ranks.rows.copy_from_first(std::span(&mean, 1));
  }
  double& running = *influence_mean_.data_ptr<double>();
  running = running == 0.0 ? mean : 0.99 * running + 0.01 * mean;
  select_screened(centred, encoder(), weights_.encoder_bias, rows.gradients, &decoder_,
                  kernel_options(options_.gradient, std::min(k, shard().count), running), codes);
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
  return std::make_unique<GradientTopKLearner>(options, statistics);
}

}  // namespace sememe
