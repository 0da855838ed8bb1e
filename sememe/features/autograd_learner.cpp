#include "sememe/features/autograd_learner.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/features/sharded_tensors.h"
#include "sememe/kernels/adam.h"

namespace sememe {
namespace {

constexpr double kLeastNorm = 1e-8;  // a shorter atom has no direction
constexpr int64_t kNumbersWorthAThread = 1 << 16;
constexpr double kDefaultTarget = 16.0;
// Of log(L0 / target), at most 1 in size, that goes into the log of the weight in a run of this many steps altogether: L0 answers a change
// of the weight within some hundred steps, and the controller must not be much faster than that.
constexpr double kControl = 10.0, kSlowestControl = 0.01;

double share_of(int64_t done, int64_t length) {
  return length <= 1 ? 1.0 : std::min(1.0, static_cast<double>(done + 1) / static_cast<double>(length));
}

}  // namespace

AutogradLearner::AutogradLearner(const LearnerOptions& options, const ActivationStatistics& statistics,
                                 const AutogradSettings& settings)
    : options_(options),
      weights_(AutoencoderWeights::zeros(options.latents, options.width)),
      settings_(settings),
      rows_since_fired_(torch::zeros({options.latents}, torch::kLong)),
      step_(torch::zeros({1}, torch::kLong)),
      rate_began_(torch::zeros({1}, torch::kLong)),
      log_sparsity_(torch::zeros({1}, torch::kDouble)) {
  initialize(statistics);
  for (auto& [name, tensor] : weights_.named()) add_parameter(name, tensor);
}

/// The encoder begins as the decoder, scaled so that unit probes are reconstructed at unit norm on average.
void AutogradLearner::initialize(const ActivationStatistics& statistics) {
  std::vector<torch::Tensor> scales;
  variance_ = 0.0;
  for (const ActivationStatistics::Part& part : statistics.parts) {
    const double scale = std::sqrt(static_cast<double>(part.width)) / part.mean_norm;
    scales.push_back(torch::full({part.width}, scale));
    variance_ += part.variance * scale * scale;
  }
  input_scale_ = torch::cat(scales);
  weights_.decoder.copy_(random_directions(options_.latents, options_.width, options_.seed, "init/decoder") * settings_.atom_norm);
  weights_.encoder.copy_(weights_.decoder);
  weights_.decoder_bias.copy_(statistics.median * input_scale_);
  const torch::Tensor probes = random_directions(256, options_.width, options_.seed, "init/probes");
  const torch::Tensor output = torch::mm(torch::mm(probes, weights_.encoder.t()).relu(), weights_.decoder);
  const double norm = output.norm(2, {1}).mean().item<double>();
  if (norm > 0) weights_.encoder.div_(norm);
}

torch::Tensor AutogradLearner::add_parameter(const std::string& name, const torch::Tensor& initial) {
  torch::Tensor parameter = initial;  // the handles of weights_ are these parameters
  parameter.set_requires_grad(true);
  parameters_.emplace_back(name, parameter);
  gradients_.emplace_back(name, torch::zeros(initial.sizes()));
  first_moments_.push_back(torch::zeros(initial.sizes()));
  second_moments_.push_back(torch::zeros(initial.sizes()));
  return parameter;
}

torch::Tensor AutogradLearner::encoder_products(const torch::Tensor& x) const {
  return torch::mm(x - weights_.decoder_bias, weights_.encoder.t());
}

torch::Tensor AutogradLearner::reconstruct(const torch::Tensor& codes) const {
  return torch::addmm(weights_.decoder_bias, codes, weights_.decoder);
}

double AutogradLearner::sparsity_share() const { return share_of(steps_done(), std::min<int64_t>(2000, options_.steps / 10)); }

void AutogradLearner::set_sparsity(double beginning) {
  check_weight("--sparsity", options_.sparsity);
  if (options_.sparsity && options_.target_l0) fail_usage("--sparsity and --target-l0 cannot both be given: one follows from the other");
  if (!options_.sparsity) target_l0_ = target_l0_of(options_);
  log_sparsity_.fill_(std::log(options_.sparsity.value_or(beginning)));
}

void AutogradLearner::follow_target(double l0) {
  if (target_l0_ <= 0 || sparsity_share() < 1.0) return;
  const double share = std::min(kSlowestControl, kControl / static_cast<double>(std::max<int64_t>(1, options_.steps)));
  log_sparsity_.add_(share * std::clamp(std::log(std::max(l0, 1e-3) / target_l0_), -1.0, 1.0));
}

StepReport AutogradLearner::report_of(const Terms& terms) const {
  const auto batch = static_cast<double>(terms.codes.size(0));
  StepReport report;
  report.loss = mean_over_ranks(terms.loss.item<double>());
  report.fvu = mean_over_ranks(terms.error.square().sum().item<double>() / (batch * variance_));
  report.l0 = mean_over_ranks((terms.codes > 0).sum().item<double>() / batch);
  return report;
}

double AutogradLearner::mean_over_ranks(double own) const {
  const Ranks& ranks = options_.ranks.rows;
  if (ranks.alone()) return own;
  ranks.sum(std::span(&own, 1));
  return own / ranks.size();
}

torch::Tensor AutogradLearner::rows_of_all_ranks(const torch::Tensor& own) const {
  const Ranks& ranks = options_.ranks.rows;
  if (ranks.alone()) return own;
  torch::Tensor all = torch::zeros({own.size(0) * ranks.size(), own.size(1)});
  all.narrow(0, own.size(0) * ranks.rank(), own.size(0)).copy_(own);
  ranks.sum(numbers_of(all));
  return all;
}

/// Losses are means over rows, and every rank has as many.
void AutogradLearner::average_gradients() {
  const Ranks& ranks = options_.ranks.rows;
  if (ranks.alone()) return;
  for (auto& [name, gradient] : gradients_) {
    ranks.sum(numbers_of(gradient));
    gradient.div_(ranks.size());
  }
}

StepReport AutogradLearner::compute_gradients(const ActivationRows& rows) {
  check_inputs(rows.activations, options_.width);
  x_ = rows.activations * input_scale_;
  // dL / d(scale x) = (dL / dx) / scale
  terms_ = terms(x_, rows.gradients.defined() ? rows.gradients / input_scale_ : rows.gradients);
  std::vector<torch::Tensor> leaves;
  for (const auto& [name, tensor] : parameters_) leaves.push_back(tensor);
  const auto gradients = torch::autograd::grad({terms_.loss}, leaves, {}, false, false, /*allow_unused=*/true);
  const torch::NoGradGuard no_autograd;
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined())
      gradients_[i].second.copy_(gradients[i]);
    else
      gradients_[i].second.zero_();
  }
  average_gradients();
  terms_ = {terms_.loss.detach(), terms_.codes.detach(), terms_.error.detach()};  // lets go of what backward needed
  return report_of(terms_);
}

void AutogradLearner::limit_gradients() {
  if (settings_.largest_gradient <= 0) return;
  double squares = 0.0;
  for (const auto& [name, gradient] : gradients_) squares += gradient.square().sum().item<double>();
  const double norm = std::sqrt(squares);
  if (norm <= settings_.largest_gradient) return;
  for (const auto& [name, gradient] : gradients_) torch::Tensor(gradient).mul_(settings_.largest_gradient / norm);
}

void AutogradLearner::apply_adam(double learning_rate) {
  const int64_t steps = step_.add_(1).item<int64_t>();
  const int64_t since = steps - 1 - rate_began_.item<int64_t>();
  const double rate = learning_rate * share_of(since, std::min<int64_t>(1000, options_.steps / 20));
  const auto adam = kernels::AdamStep::at(steps, rate, settings_.beta1, settings_.beta2, settings_.epsilon);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    float* const weights = parameters_[i].second.data_ptr<float>();
    float* const gradients = gradients_[i].second.data_ptr<float>();
    float* const first = first_moments_[i].data_ptr<float>();
    float* const second = second_moments_[i].data_ptr<float>();
    if (settings_.unit_atoms && parameters_[i].second.is_same(weights_.decoder)) {
      const int64_t width = options_.width;
      const torch::Tensor redrawn = random_directions(1, width, options_.seed, fmt::format("redraw/{}", steps));
      parallel_for(options_.latents, 64, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin * width; at < end * width; at += width)
          if (!(kernels::adam_unit_row(adam, weights + at, gradients + at, first + at, second + at, width) > kLeastNorm))
            std::copy_n(redrawn.data_ptr<float>(), width, weights + at);
      });
      continue;
    }
    parallel_for(parameters_[i].second.numel(), kNumbersWorthAThread, [&](int64_t begin, int64_t end) {
      kernels::adam(adam, weights + begin, gradients + begin, first + begin, second + begin, end - begin);
    });
  }
}

StepReport AutogradLearner::step(const ActivationRows& rows, double learning_rate) {
  StepReport report = compute_gradients(rows);
  check_loss(report.loss, steps_done() + 1);
  const torch::NoGradGuard no_autograd;
  const Ranks& ranks = options_.ranks.rows;
  torch::Tensor fired = (terms_.codes > 0).any(0).to(torch::kLong);
  ranks.largest({fired.data_ptr<int64_t>(), static_cast<size_t>(fired.numel())});
  rows_since_fired_.add_(rows.activations.size(0) * ranks.size()).masked_fill_(fired > 0, 0);
  limit_gradients();
  apply_adam(learning_rate);
  follow_target(report.l0);
  after_step(x_, terms_);
  report.dead = dead().sum().item<int64_t>();
  return report;
}

AutogradLearner::Unscaled AutogradLearner::unscaled() const {
  const torch::NoGradGuard no_autograd;
  // With x = scaled / s and n the norm of an atom / s: u n = (x - b / s) (s encoder n)^T + encoder_bias n.
  const torch::Tensor atoms = weights_.decoder / input_scale_;
  torch::Tensor unit = atoms.norm(2, {1});
  unit = torch::where(weights_.decoder.norm(2, {1}) > kLeastNorm, unit, input_scale_.mean().reciprocal());
  return {{weights_.encoder * input_scale_ * unit.unsqueeze(1), weights_.encoder_bias * unit, atoms / unit.unsqueeze(1),
           weights_.decoder_bias / input_scale_},
          unit};
}

NamedTensors AutogradLearner::state() const {
  NamedTensors state{{"rows_since_fired", rows_since_fired_}, {"step", step_}, {"rate_began", rate_began_}, {"log_sparsity", log_sparsity_}};
  for (size_t i = 0; i < parameters_.size(); ++i) {
    state.emplace_back("weights." + parameters_[i].first, parameters_[i].second.detach());
    state.emplace_back("first_moments." + parameters_[i].first, first_moments_[i]);
    state.emplace_back("second_moments." + parameters_[i].first, second_moments_[i]);
  }
  return state;
}

void AutogradLearner::restore(const SafetensorsFile& file) { restore_tensors(state(), file); }

double target_l0_of(const LearnerOptions& options) {
  const auto latents = static_cast<double>(options.latents);
  if (!options.target_l0) return std::min(kDefaultTarget, 0.5 * latents);
  if (!(*options.target_l0 > 0) || !(*options.target_l0 <= latents))
    fail_usage("--target-l0 {}: give a number above 0, at most the number of latents, {}", *options.target_l0, options.latents);
  return *options.target_l0;
}

void check_weight(const char* option, const std::optional<double>& weight) {
  if (weight && (!(*weight >= 0) || !std::isfinite(*weight))) fail_usage("{} {}: give a number of at least 0", option, *weight);
}

}  // namespace sememe
