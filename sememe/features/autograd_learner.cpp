#include "sememe/features/autograd_learner.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/features/sharded_tensors.h"
#include "sememe/features/tensor_adam.h"
#include "sememe/features/tensor_codes.h"
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
      rows_since_fired_(torch::zeros({options.latents}, torch::TensorOptions(torch::kLong).device(options.device))),
      step_(torch::zeros({1}, torch::kLong)),
      rate_began_(torch::zeros({1}, torch::kLong)),
      log_sparsity_(torch::zeros({1}, torch::kDouble)),
      part_(rows_of_part(options.latents)) {
  initialize(statistics);
  weights_ = weights_.to(options.device);
  input_scale_ = input_scale_.to(options.device);
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
  torch::Tensor parameter = initial.to(options_.device);  // the handles of weights_ are these parameters
  gradients_.emplace_back(name, torch::zeros_like(parameter));
  first_moments_.push_back(torch::zeros_like(parameter));
  second_moments_.push_back(torch::zeros_like(parameter));
  parameter.set_requires_grad(true);
  parameters_.emplace_back(name, parameter);
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

/// Adds what rows [begin, begin + count) of the batch have of its loss, gradients and figures.
void AutogradLearner::add_part(int64_t begin, int64_t count, const torch::Tensor& gradients, StepReport& report) {
  const double share = static_cast<double>(count) / static_cast<double>(x_.size(0));
  const Terms terms = this->terms(x_.narrow(0, begin, count), gradients.defined() ? gradients.narrow(0, begin, count) : gradients);
  std::vector<torch::Tensor> leaves;
  for (const auto& [name, tensor] : parameters_) leaves.push_back(tensor);
  const auto found = torch::autograd::grad({terms.loss}, leaves, {}, false, false, /*allow_unused=*/true);
  const torch::NoGradGuard no_autograd;
  for (size_t i = 0; i < found.size(); ++i)
    if (found[i].defined()) gradients_[i].second.add_(found[i], share);
  report.loss += share * terms.loss.item<double>();
  const torch::Tensor active = terms.codes.detach() > 0, error = terms.error.detach();
  report.fvu += error.square().sum().item<double>();
  report.l0 += active.sum().item<double>();
  fired_ = begin == 0 ? active.any(0) : fired_ | active.any(0);
  errors_.push_back(error);
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
  const auto batch = static_cast<double>(rows.activations.size(0));
  x_ = rows.activations.to(options_.device) * input_scale_;
  // dL / d(scale x) = (dL / dx) / scale
  const torch::Tensor gradients = rows.gradients.defined() ? rows.gradients.to(options_.device) / input_scale_ : rows.gradients;
  StepReport report;
  {
    const torch::NoGradGuard no_autograd;
    for (const auto& [name, gradient] : gradients_) torch::Tensor(gradient).zero_();
    begin_batch(x_, gradients);
  }
  errors_.clear();
  for_parts(x_.size(0), part_, [&](int64_t begin, int64_t count) { add_part(begin, count, gradients, report); });
  average_gradients();
  report.loss = mean_over_ranks(report.loss);
  report.fvu = mean_over_ranks(report.fvu / (batch * variance_));
  report.l0 = mean_over_ranks(report.l0 / batch);
  return report;
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
    if (options_.device.is_cpu())
      apply_adam(adam, i);
    else
      apply_adam_by_tensors(adam, i);
  }
}

/// What takes the place of atoms that have lost their direction. [1, width]
torch::Tensor AutogradLearner::redrawn_atom() const {
  return random_directions(1, options_.width, options_.seed, fmt::format("redraw/{}", steps_done()));
}

void AutogradLearner::apply_adam(const kernels::AdamStep& adam, size_t parameter) {
  float* const weights = parameters_[parameter].second.data_ptr<float>();
  float* const gradients = gradients_[parameter].second.data_ptr<float>();
  float* const first = first_moments_[parameter].data_ptr<float>();
  float* const second = second_moments_[parameter].data_ptr<float>();
  if (settings_.unit_atoms && parameters_[parameter].second.is_same(weights_.decoder)) {
    const int64_t width = options_.width;
    const torch::Tensor redrawn = redrawn_atom();
    parallel_for(options_.latents, 64, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * width; at < end * width; at += width)
        if (!(kernels::adam_unit_row(adam, weights + at, gradients + at, first + at, second + at, width) > kLeastNorm))
          std::copy_n(redrawn.data_ptr<float>(), width, weights + at);
    });
    return;
  }
  parallel_for(parameters_[parameter].second.numel(), kNumbersWorthAThread, [&](int64_t begin, int64_t end) {
    kernels::adam(adam, weights + begin, gradients + begin, first + begin, second + begin, end - begin);
  });
}

void AutogradLearner::apply_adam_by_tensors(const kernels::AdamStep& adam, size_t parameter) {
  const torch::Tensor& weights = parameters_[parameter].second;
  const torch::Tensor &gradients = gradients_[parameter].second, &first = first_moments_[parameter], &second = second_moments_[parameter];
  if (!settings_.unit_atoms || !weights.is_same(weights_.decoder)) {
    adam_by_tensors(adam, weights, gradients, first, second);
    return;
  }
  const torch::Tensor norms = adam_unit_rows_by_tensors(adam, weights, gradients, first, second);
  weights.copy_(torch::where((norms > kLeastNorm).unsqueeze(1), weights, redrawn_atom().to(options_.device)));
}

StepReport AutogradLearner::step(const ActivationRows& rows, double learning_rate) {
  StepReport report = compute_gradients(rows);
  check_loss(report.loss, steps_done() + 1);
  const torch::NoGradGuard no_autograd;
  const Ranks& ranks = options_.ranks.rows;
  if (!ranks.alone()) {
    torch::Tensor fired = fired_.to(torch::kLong);
    ranks.largest({fired.data_ptr<int64_t>(), static_cast<size_t>(fired.numel())});
    fired_ = fired > 0;
  }
  rows_since_fired_.add_(rows.activations.size(0) * ranks.size()).masked_fill_(fired_, 0);
  limit_gradients();
  apply_adam(learning_rate);
  follow_target(report.l0);
  after_step(x_, errors_.size() == 1 ? errors_[0] : torch::cat(errors_));
  report.dead = dead().sum().item<int64_t>();
  return report;
}

AutogradLearner::Unscaled AutogradLearner::unscaled() const {
  const torch::NoGradGuard no_autograd;
  // With x = scaled / s and n the norm of an atom / s: u n = (x - b / s) (s encoder n)^T + encoder_bias n.
  const torch::Tensor atoms = weights_.decoder / input_scale_;
  torch::Tensor unit = atoms.norm(2, {1});
  unit = torch::where(weights_.decoder.norm(2, {1}) > kLeastNorm, unit, input_scale_.mean().reciprocal());
  return {AutoencoderWeights{weights_.encoder * input_scale_ * unit.unsqueeze(1), weights_.encoder_bias * unit,
                             atoms / unit.unsqueeze(1), weights_.decoder_bias / input_scale_}
              .to(torch::kCPU),
          unit.cpu()};
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
