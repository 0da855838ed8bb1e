#include "sememe/features/relu.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/features/threshold_dictionary.h"

namespace sememe {
namespace {

// Times sqrt(width), as rows of norm sqrt(width) have codes of that order. Little: a latent that too large a weight kills stays dead.
constexpr double kBeginningSparsity = 0.03;
constexpr double kResampledEncoderNorm = 0.2;  // of the mean over living latents
constexpr int64_t kResamplings = 4;            // at 1/8, 2/8, ... of the run, so that the last have half of it to learn

bool is_classic(const LearnerOptions& options) {
  const std::string penalty = options.penalty.value_or("decoder-norm");
  if (penalty != "decoder-norm" && penalty != "classic") fail_usage("--penalty {}: choose decoder-norm or classic", penalty);
  return penalty == "classic";
}

AutogradSettings settings_of(const LearnerOptions& options) {
  if (is_classic(options)) return {};
  return {.unit_atoms = false, .atom_norm = 0.1, .largest_gradient = 1.0};
}

/// `count` rows, each drawn with a probability in proportion to its squared loss.
torch::Tensor draw_bad_rows(const torch::Tensor& losses, int64_t count, RandomStream& stream) {
  const torch::Tensor sums = losses.to(torch::kDouble).square().cumsum(0);
  const double total = sums[-1].item<double>();
  torch::Tensor drawn = torch::empty({count}, torch::kDouble);
  for (int64_t i = 0; i < count; ++i) drawn.data_ptr<double>()[i] = stream.uniform() * total;
  return torch::searchsorted(sums, drawn.to(sums.device()), false, true).clamp_max(losses.size(0) - 1);
}

}  // namespace

ReluLearner::ReluLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : AutogradLearner(options, statistics, settings_of(options)), classic_(is_classic(options)) {
  set_sparsity(kBeginningSparsity * std::sqrt(static_cast<double>(options.width)));
}

AutogradLearner::Terms ReluLearner::terms(const torch::Tensor& x, const torch::Tensor&) {
  const torch::Tensor codes = (encoder_products(x) + weights_.encoder_bias).relu();
  const torch::Tensor error = x - reconstruct(codes);
  const torch::Tensor sizes = classic_ ? codes.sum(1) : torch::mv(codes, atom_sizes());
  return {error.square().sum(1).mean() + sparsity() * sizes.mean(), codes, error};
}

void ReluLearner::after_step(const torch::Tensor& x, const torch::Tensor& error) {
  if (!classic_ || options_.steps < 8) return;
  const int64_t every = options_.steps / 8;
  if (steps_done() % every != 0 || steps_done() / every > kResamplings) return;
  const torch::Tensor latents = dead().nonzero().squeeze(1);
  if (latents.numel() > 0) resample(rows_of_all_ranks(x), rows_of_all_ranks(error), latents);
}

void ReluLearner::resample(const torch::Tensor& x, const torch::Tensor& error, const torch::Tensor& latents) {
  const torch::Tensor alive = dead().logical_not();
  RandomStream stream(options_.seed, fmt::format("resample/{}", steps_done()));
  const torch::Tensor rows = draw_bad_rows(error.square().sum(1), latents.numel(), stream);
  torch::Tensor directions = (x - weights_.decoder_bias).index_select(0, rows);
  directions = directions / directions.norm(2, {1}, true).clamp_min(1e-8);
  const torch::Tensor norms = weights_.encoder.norm(2, {1});
  const torch::Tensor norm = (alive.any().item<bool>() ? norms.index({alive}) : norms).mean() * kResampledEncoderNorm;
  weights_.decoder.index_copy_(0, latents, directions);
  weights_.encoder.index_copy_(0, latents, directions * norm);
  weights_.encoder_bias.index_fill_(0, latents, 0.0);
  for (size_t i = 0; i < 3; ++i) {  // the decoder's bias, the fourth parameter, belongs to no latent
    const auto [first, second] = moments(i);
    first.index_fill_(0, latents, 0.0);
    second.index_fill_(0, latents, 0.0);
  }
  rows_since_fired().index_fill_(0, latents, 0);
  restart_rate();
}

std::shared_ptr<Dictionary> ReluLearner::dictionary(const Json& origin) const {
  return std::make_shared<ThresholdDictionary>(unscaled().weights, torch::zeros({options_.latents}), architecture(), origin);
}

std::unique_ptr<DictionaryLearner> learn_relu(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<ReluLearner>(options, statistics);
}

}  // namespace sememe
