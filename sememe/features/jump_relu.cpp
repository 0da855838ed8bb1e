#include "sememe/features/jump_relu.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/features/tensor_codes.h"
#include "sememe/features/threshold_dictionary.h"

namespace sememe {
namespace {

constexpr double kTanhSlope = 4.0;
constexpr double kDeadWeight = 3e-6;
constexpr double kDefaultTanh = 0.005;  // times width
// For rows of norm sqrt(width). The papers' 0.001 is for rows of norm 1 and long runs; these are SAELens' and Anthropic's, and on planted
// directions thresholds arrive within a thousand steps.
constexpr double kBandwidth = 0.05;
constexpr double kInitialThreshold = 0.1;

bool is_tanh(const LearnerOptions& options) {
  const std::string penalty = options.penalty.value_or("l0");
  if (penalty != "l0" && penalty != "tanh") fail_usage("--penalty {}: choose l0 or tanh", penalty);
  return penalty == "tanh";
}

double target_of(const LearnerOptions& options) {
  if (!options.target_l0)
    return is_tanh(options) || options.sparsity ? 0.0 : target_l0_of(options);
  if (is_tanh(options)) fail_usage("--target-l0 goes with --penalty l0; with tanh give --sparsity");
  return target_l0_of(options);
}

/// The z that a standard normal number passes with this probability, for one below a half.
double normal_quantile_above(double probability) {
  double low = 0.0, high = 40.0;
  while (high - low > 1e-6) {
    const double z = (low + high) / 2;
    (0.5 * std::erfc(z / std::sqrt(2.0)) > probability ? low : high) = z;
  }
  return low;
}

/// Nothing in value; `slope` in the derivative to `parameter`.
torch::Tensor straight_through(const torch::Tensor& parameter, const torch::Tensor& slope) {
  return slope * (parameter - parameter.detach());
}

}  // namespace

JumpReluLearner::JumpReluLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : AutogradLearner(options, statistics, {.beta1 = 0.0, .unit_atoms = !is_tanh(options), .largest_gradient = 1.0}),
      tanh_(is_tanh(options)),
      target_l0_(target_of(options)),
      bandwidth_(kBandwidth) {
  check_weight("--sparsity", options.sparsity);
  const auto width = static_cast<double>(options.width);
  sparsity_ = options.sparsity.value_or(tanh_ ? kDefaultTanh * width : width);
  log_threshold_ = add_parameter("log_threshold", torch::full({options.latents}, std::log(initial_threshold())));
}

double JumpReluLearner::initial_threshold() const {
  if (target_l0_ <= 0) return kInitialThreshold;
  const double share = std::min(0.49, target_l0_ / static_cast<double>(options_.latents));
  const double spread = std::sqrt(variance() / static_cast<double>(options_.width)) * weights_.encoder.norm(2, {1}).mean().item<double>();
  return std::max(kInitialThreshold, spread * normal_quantile_above(share));
}

AutogradLearner::Terms JumpReluLearner::terms(const torch::Tensor& x, const torch::Tensor&) {
  const torch::Tensor u = encoder_products(x) + weights_.encoder_bias;
  const torch::Tensor threshold = log_threshold_.exp();
  torch::Tensor fires, near;  // as numbers
  {
    const torch::NoGradGuard constant;
    fires = (u > threshold).to(torch::kFloat);
    near = ((u - threshold).abs() < 0.5 * bandwidth_).to(torch::kFloat);
  }
  const torch::Tensor codes = u * fires + straight_through(threshold, near * (threshold.detach() / -bandwidth_));
  const torch::Tensor error = x - reconstruct(codes);
  const torch::Tensor squares = error.square().sum(1).mean();
  const double sparsity = sparsity_ * sparsity_share();
  if (tanh_) {
    const torch::Tensor norms = weights_.decoder.norm(2, {1});
    const torch::Tensor below = ((threshold - u).relu() * (norms * dead())).sum(1).mean();
    return {squares + sparsity * (kTanhSlope * codes * norms).tanh().sum(1).mean() + kDeadWeight * below, codes, error};
  }
  // Of the whole batch; the derivative is of these rows.
  const double batch_l0 = batch_l0_ ? *batch_l0_ : mean_over_ranks(fires.sum(1).mean().item<double>());
  const torch::Tensor l0 = batch_l0 + straight_through(threshold, near.mean(0) / -bandwidth_).sum();
  return {squares + sparsity * (target_l0_ > 0 ? (l0 / target_l0_ - 1.0).square() : l0), codes, error};
}

void JumpReluLearner::begin_batch(const torch::Tensor& x, const torch::Tensor&) {
  batch_l0_.reset();
  if (target_l0_ <= 0 || x.size(0) <= part()) return;
  double firing = 0.0;
  for_parts(x.size(0), part(), [&](int64_t begin, int64_t count) {
    const torch::Tensor u = encoder_products(x.narrow(0, begin, count)) + weights_.encoder_bias;
    firing += (u > log_threshold_.exp()).sum().item<double>();
  });
  batch_l0_ = mean_over_ranks(firing / static_cast<double>(x.size(0)));
}

std::shared_ptr<Dictionary> JumpReluLearner::dictionary(const Json& origin) const {
  const Unscaled plain = unscaled();
  return std::make_shared<ThresholdDictionary>(plain.weights, log_threshold_.detach().cpu().exp() * plain.code_unit, "jumprelu", origin);
}

std::unique_ptr<DictionaryLearner> learn_jump_relu(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<JumpReluLearner>(options, statistics);
}

}  // namespace sememe
