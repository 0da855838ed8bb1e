#include "sememe/features/tensor_top_k.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/matryoshka.h"
#include "sememe/features/tensor_adam.h"
#include "sememe/features/threshold_dictionary.h"
#include "sememe/features/top_k.h"

namespace sememe {
namespace {

AutoencoderWeights zeros_like(const AutoencoderWeights& weights) {
  return {torch::zeros_like(weights.encoder), torch::zeros_like(weights.encoder_bias), torch::zeros_like(weights.decoder),
          torch::zeros_like(weights.decoder_bias)};
}

/// Selection also by influence on the loss.
class TensorGradientTopK : public TensorTopKLearner {
 public:
  TensorGradientTopK(const LearnerOptions& options, const ActivationStatistics& statistics)
      : TensorTopKLearner(options, statistics), influence_mean_(torch::zeros({1}, torch::kDouble)) {
    check_selection(options.gradient);
  }

  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override {
    return std::make_shared<GradientTopKDictionary>(unscaled_weights(), options_.k, options_.gradient, influence_mean_.item<double>(),
                                                    origin);
  }
  NamedTensors state() const override {
    NamedTensors state = TensorTopKLearner::state();
    state.emplace_back("influence_mean", influence_mean_);
    return state;
  }

 protected:
  SparseCodes select(const torch::Tensor& centred, const torch::Tensor& gradients, int64_t k) override {
    if (!gradients.defined()) fail("g-SAE needs gradients; capture with --gradients");
    follow_influence(measure_influence(gradients, weights_.decoder), influence_mean_);
    const kernels::TopKOptions options = selection_options(options_.gradient, k, influence_mean_.item<double>());
    const RowProducts by_atom(weights_.decoder);
    std::vector<SparseCodes> parts;
    for_parts(centred.size(0), part(), [&](int64_t begin, int64_t count) {
      const torch::Tensor influence = by_atom.with(gradients.narrow(0, begin, count)).abs_();
      parts.push_back(top_k_by_tensors(pre_activations(centred, begin, count), influence, options, begin));
    });
    return join_codes(parts);
  }

 private:
  torch::Tensor influence_mean_;  // [1] float64, on the CPU
};

/// Selection from all rows of a batch together.
class TensorBatchTopK : public TensorTopKLearner {
 public:
  TensorBatchTopK(const LearnerOptions& options, const ActivationStatistics& statistics)
      : TensorTopKLearner(options, statistics), threshold_(options.steps) {}

  StepReport step(const ActivationRows& rows, double learning_rate) override {
    const StepReport report = TensorTopKLearner::step(rows, learning_rate);
    if (report.l0 > 0) threshold_.follow(steps_done(), [this] { return codes_.values.min().item<float>(); });
    return report;
  }
  std::shared_ptr<Dictionary> dictionary(const Json& origin) const override {
    const double threshold = threshold_.checked(architecture(), steps_done()) / input_scale();
    Json config = origin;
    config.update(settings());
    return std::make_shared<ThresholdDictionary>(unscaled_weights(), torch::full({options_.latents}, threshold), architecture(), config);
  }
  NamedTensors state() const override {
    NamedTensors state = TensorTopKLearner::state();
    state.emplace_back("threshold", threshold_.tensor());
    return state;
  }

 protected:
  SparseCodes select(const torch::Tensor& centred, const torch::Tensor&, int64_t k) override {
    LargestOfBatch largest(centred.size(0), options_.latents, centred.size(0) * std::min(k, options_.latents));
    for_parts(centred.size(0), part(), [&](int64_t begin, int64_t count) { largest.add(pre_activations(centred, begin, count), begin); });
    return largest.codes();
  }
  virtual std::string architecture() const { return "batchtopk"; }
  virtual Json settings() const { return {{"k", options_.k}}; }

 private:
  BatchThreshold threshold_;
};

/// With the errors of nested prefixes of the latents.
class TensorMatryoshka : public TensorBatchTopK {
 public:
  TensorMatryoshka(const LearnerOptions& options, const ActivationStatistics& statistics)
      : TensorBatchTopK(options, statistics), prefixes_(matryoshka_prefixes(options)) {}

 protected:
  Reconstruction add_reconstruction(const SparseCodes& codes, const torch::Tensor& x, double weight) override {
    const std::vector<SparseCodes> groups = split(codes);
    std::vector<torch::Tensor> errors;
    double squares = 0.0;
    for (size_t i = 0; i < groups.size(); ++i) {
      const torch::Tensor part = sum_by_codes(groups[i], weights_.decoder, i == 0 ? weights_.decoder_bias : torch::Tensor());
      errors.push_back((i == 0 ? x : errors.back()) - part);
      squares += errors.back().square().sum().item<double>();
    }
    // A latent is part of its own prefix and of all longer ones.
    torch::Tensor to_reconstructions = torch::zeros_like(x);
    for (size_t i = groups.size(); i-- > 0;) {
      to_reconstructions = torch::add(to_reconstructions, errors[i], -2.0 * weight);
      add_term(groups[i], to_reconstructions);
    }
    return {squares, errors.back(), to_reconstructions.sum(0)};
  }
  std::string architecture() const override { return "matryoshka"; }
  Json settings() const override { return {{"k", options_.k}, {"prefixes", prefixes_}}; }

 private:
  /// The codes between one prefix and the next.
  std::vector<SparseCodes> split(const SparseCodes& codes) const {
    const torch::Tensor rows = rows_of_entries(codes);
    std::vector<SparseCodes> groups;
    int64_t begin = 0;
    for (const int64_t end : prefixes_) {
      const torch::Tensor here = (codes.atoms >= begin) & (codes.atoms < end);
      torch::Tensor offsets = torch::zeros_like(codes.offsets);
      offsets.narrow(0, 1, codes.rows()).copy_(rows.masked_select(here).bincount({}, codes.rows()).cumsum(0));
      groups.push_back({offsets, codes.atoms.masked_select(here), codes.values.masked_select(here)});
      begin = end;
    }
    return groups;
  }

  std::vector<int64_t> prefixes_;
};

}  // namespace

TensorTopKLearner::TensorTopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : options_(options), part_(rows_of_part(options.latents)), step_(torch::zeros({1}, torch::kLong)) {
  if (options_.auxiliary_k < 0) options_.auxiliary_k = std::max<int64_t>(1, options.width / 2);
  const torch::NoGradGuard no_autograd;
  initialize(statistics);
  first_moments_ = zeros_like(weights_);
  second_moments_ = zeros_like(weights_);
  rows_since_selected_ = torch::zeros({options.latents}, torch::TensorOptions(torch::kLong).device(options.device));
}

/// As TopKLearner begins: the encoder is the decoder, scaled so that unit probes are reconstructed at unit norm on average.
void TensorTopKLearner::initialize(const ActivationStatistics& statistics) {
  input_scale_ = std::sqrt(static_cast<double>(options_.width)) / statistics.mean_norm;
  variance_ = statistics.variance * input_scale_ * input_scale_;
  const torch::Tensor directions = random_directions(options_.latents, options_.width, options_.seed, "init/decoder");
  weights_ = AutoencoderWeights{directions.clone(), torch::zeros({options_.latents}), directions, statistics.median * input_scale_}.to(
      options_.device);
  const torch::Tensor probes = random_directions(256, options_.width, options_.seed, "init/probes").to(options_.device);
  const SparseCodes codes = top_k_by_tensors(torch::mm(probes, weights_.encoder.t()), {}, {.k = options_.k});
  const double norm = sum_by_codes(codes, weights_.decoder, {}).norm(2, {1}).mean().item<double>();
  if (norm > 0) weights_.encoder.div_(norm);
}

torch::Tensor TensorTopKLearner::pre_activations(const torch::Tensor& centred, int64_t begin, int64_t count) const {
  return encoder_->with(centred.narrow(0, begin, count), weights_.encoder_bias);
}

SparseCodes TensorTopKLearner::select(const torch::Tensor& centred, const torch::Tensor&, int64_t k) {
  std::vector<SparseCodes> parts;
  for_parts(centred.size(0), part_, [&](int64_t begin, int64_t count) {
    parts.push_back(top_k_by_tensors(pre_activations(centred, begin, count), {}, {.k = k}, begin));
  });
  return join_codes(parts);
}

torch::Tensor TensorTopKLearner::dead_latents() const { return (rows_since_selected_ >= options_.dead_after).nonzero().squeeze(1); }

void TensorTopKLearner::add_term(const SparseCodes& codes, const torch::Tensor& output_gradients) {
  const TensorColumns columns(codes, options_.latents);
  const torch::Tensor code_gradients = dot_by_codes(codes, output_gradients, weights_.decoder);
  gradients_.encoder.add_(columns.sum(code_gradients, centred_));
  gradients_.encoder_bias.add_(columns.sum(code_gradients, torch::ones({centred_.size(0), 1}, centred_.options())).squeeze(1));
  gradients_.decoder.add_(columns.sum(codes.values, output_gradients));
}

TensorTopKLearner::Reconstruction TensorTopKLearner::add_reconstruction(const SparseCodes& codes, const torch::Tensor& x, double weight) {
  const torch::Tensor error = x - sum_by_codes(codes, weights_.decoder, weights_.decoder_bias);
  const torch::Tensor to_reconstruction = error * (-2.0 * weight);
  add_term(codes, to_reconstruction);
  return {error.square().sum().item<double>(), error, to_reconstruction.sum(0)};
}

/// As TopKLearner's: dead latents model the error, and only they learn from it. @returns the loss
double TensorTopKLearner::add_auxiliary(const torch::Tensor& error) {
  const torch::Tensor dead = dead_latents();
  const double spread = (error - error.mean(0)).square().sum().item<double>();
  if (dead.numel() == 0 || options_.auxiliary_k == 0 || !(spread > 0)) return 0.0;
  const torch::Tensor encoder = weights_.encoder.index_select(0, dead), bias = weights_.encoder_bias.index_select(0, dead);
  const RowProducts by_latent(encoder);
  std::vector<SparseCodes> parts;
  for_parts(centred_.size(0), part_, [&](int64_t begin, int64_t count) {
    parts.push_back(top_k_by_tensors(by_latent.with(centred_.narrow(0, begin, count), bias), {},
                                     {.k = std::min(options_.auxiliary_k, dead.numel())}, begin));
  });
  SparseCodes codes = join_codes(parts);
  codes.atoms = dead.index_select(0, codes.atoms).to(torch::kInt);
  const torch::Tensor difference = sum_by_codes(codes, weights_.decoder, {}) - error;
  add_term(codes, difference * (2.0 * kAuxiliaryWeight / spread));
  return difference.square().sum().item<double>() / spread;
}

StepReport TensorTopKLearner::read_batch(const torch::Tensor& x, const torch::Tensor& gradients) {
  const int64_t batch = x.size(0);
  const double spread = static_cast<double>(batch) * variance_;
  centred_ = x - weights_.decoder_bias;
  encoder_.reset();
  encoder_.emplace(weights_.encoder);
  gradients_ = zeros_like(weights_);
  double more_squares = 0.0;
  torch::Tensor to_output = torch::zeros_like(weights_.decoder_bias);
  if (options_.multi_top_k) {
    const SparseCodes more_codes = select(centred_, gradients, std::min(4 * options_.k, options_.latents));
    const Reconstruction more = add_reconstruction(more_codes, x, kMultiTopKWeight / spread);
    more_squares = kMultiTopKWeight * more.squares;
    to_output += more.to_output;
  }
  codes_ = select(centred_, gradients, options_.k);
  const Reconstruction main = add_reconstruction(codes_, x, 1.0 / spread);
  const double auxiliary = add_auxiliary(main.error);
  // The decoder's bias is added to the output and taken from the encoder's input.
  gradients_.decoder_bias = to_output + main.to_output - torch::mv(weights_.encoder.t(), gradients_.encoder_bias);

  StepReport report;
  report.fvu = main.error.square().sum().item<double>() / spread;
  report.loss = (main.squares + more_squares) / spread + kAuxiliaryWeight * auxiliary;
  report.l0 = static_cast<double>(codes_.values.size(0)) / static_cast<double>(batch);
  return report;
}

StepReport TensorTopKLearner::compute_gradients(const ActivationRows& rows) {
  const torch::NoGradGuard no_autograd;
  check_inputs(rows.activations, options_.width);
  return read_batch(rows.activations.to(options_.device) * input_scale_,
                    rows.gradients.defined() ? rows.gradients.to(options_.device) : rows.gradients);
}

void TensorTopKLearner::apply_adam(double learning_rate) {
  const int64_t steps = step_.add_(1).item<int64_t>();
  const auto adam = kernels::AdamStep::at(steps, learning_rate);
  adam_by_tensors(adam, weights_.encoder, gradients_.encoder, first_moments_.encoder, second_moments_.encoder);
  const torch::Tensor norms =
      adam_unit_rows_by_tensors(adam, weights_.decoder, gradients_.decoder, first_moments_.decoder, second_moments_.decoder);
  const torch::Tensor lost = (norms >= kLeastAtomNorm).logical_not();
  if (lost.any().item<bool>()) {
    const torch::Tensor latents = lost.nonzero().squeeze(1).cpu();
    for (int64_t i = 0; i < latents.size(0); ++i) {
      const int64_t latent = latents[i].item<int64_t>();
      weights_.decoder[latent].copy_(random_directions(1, options_.width, options_.seed, fmt::format("redraw/{}/{}", latent, steps))[0]);
    }
  }
  adam_by_tensors(adam, weights_.encoder_bias, gradients_.encoder_bias, first_moments_.encoder_bias, second_moments_.encoder_bias);
  adam_by_tensors(adam, weights_.decoder_bias, gradients_.decoder_bias, first_moments_.decoder_bias, second_moments_.decoder_bias);
}

StepReport TensorTopKLearner::step(const ActivationRows& rows, double learning_rate) {
  const torch::NoGradGuard no_autograd;
  const int64_t done = steps_done();
  StepReport report;
  try {
    report = compute_gradients(rows);
  } catch (const Error& error) {
    // Rows are checked where they are read: what fails after a first good step has diverged.
    if (done == 0) throw;
    fail("step {}: {}; train with a lower --learning-rate", done + 1, error.what());
  }
  check_loss(report.loss, done + 1);
  rows_since_selected_.add_(rows.activations.size(0)).index_fill_(0, codes_.atoms.to(torch::kLong), 0);
  apply_adam(learning_rate);
  report.dead = dead_latents().size(0);
  return report;
}

AutoencoderWeights TensorTopKLearner::unscaled_weights() const {
  // As in TopKLearner: only the biases change, atoms stay of norm 1 and codes are in the inputs' unit.
  return AutoencoderWeights{weights_.encoder.clone(), weights_.encoder_bias / input_scale_, weights_.decoder.clone(),
                            weights_.decoder_bias / input_scale_}
      .to(torch::kCPU);
}

std::shared_ptr<Dictionary> TensorTopKLearner::dictionary(const Json& origin) const {
  return std::make_shared<TopKDictionary>(unscaled_weights(), options_.k, origin);
}

NamedTensors TensorTopKLearner::state() const {
  NamedTensors state{{"rows_since_selected", rows_since_selected_}, {"step", step_}};
  for (const auto& tensor : named_with_moments(weights_, first_moments_, second_moments_)) state.push_back(tensor);
  return state;
}

std::unique_ptr<TensorTopKLearner> learn_by_tensors(std::string_view architecture, const LearnerOptions& options,
                                                    const ActivationStatistics& statistics) {
  if (architecture == "gsae") return std::make_unique<TensorGradientTopK>(options, statistics);
  if (architecture == "batchtopk") return std::make_unique<TensorBatchTopK>(options, statistics);
  if (architecture == "matryoshka") return std::make_unique<TensorMatryoshka>(options, statistics);
  return std::make_unique<TensorTopKLearner>(options, statistics);
}

}  // namespace sememe
