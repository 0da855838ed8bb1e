#include "sememe/features/top_k.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"

namespace sememe {
namespace {

constexpr double kAuxiliaryWeight = 1.0 / 32.0;
constexpr double kMultiTopKWeight = 1.0 / 8.0;

/// Adam (Kingma & Ba 2015) on one row, betas 0.9 and 0.999, epsilon as in Gao et al.
struct AdamStep {
  float rate, first_correction, second_correction;

  void apply(float* __restrict weights, const float* __restrict gradients, float* __restrict first, float* __restrict second,
             int64_t n) const {
    for (int64_t i = 0; i < n; ++i) {
      first[i] = 0.9f * first[i] + 0.1f * gradients[i];
      second[i] = 0.999f * second[i] + 0.001f * gradients[i] * gradients[i];
      weights[i] -= rate * (first[i] * first_correction) / (std::sqrt(second[i] * second_correction) + 6.25e-10f);
    }
  }
};

double row_dot(const float* a, const float* b, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

}  // namespace

TopKDictionary::TopKDictionary(AutoencoderWeights weights, int64_t k, Json config)
    : Autoencoder(std::move(weights), std::move(config)), k_(k) {}

SparseCodes TopKDictionary::encode(const torch::Tensor& x) const {
  return encode_in_parts(x, [this](torch::Tensor& pre_activations, int64_t, SelectedCodes& codes) {
    select_codes(pre_activations, {.k = k_}, codes);
  });
}

int64_t load_k(const Json& config, const SafetensorsFile& file, int64_t latents) {
  const auto k = json_member<int64_t>(config, "k", config_path(file));
  if (k < 1 || k > latents) fail("{}: k {} cannot be with {} latents: 1 <= k <= latents", config_path(file), k, latents);
  return k;
}

TopKLearner::TopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : options_(options),
      weights_(AutoencoderWeights::zeros(options.latents, options.width)),
      gradients_(AutoencoderWeights::zeros(options.latents, options.width)),
      first_moments_(AutoencoderWeights::zeros(options.latents, options.width)),
      second_moments_(AutoencoderWeights::zeros(options.latents, options.width)),
      rows_since_selected_(torch::zeros({options.latents}, torch::kLong)),
      step_(torch::zeros({1}, torch::kLong)) {
  if (options_.auxiliary_k < 0) options_.auxiliary_k = std::max<int64_t>(1, options.width / 2);
  initialize(statistics);
}

void TopKLearner::initialize(const ActivationStatistics& statistics) {
  input_scale_ = std::sqrt(static_cast<double>(options_.width)) / statistics.mean_norm;
  variance_ = statistics.variance * input_scale_ * input_scale_;
  weights_.decoder.copy_(random_directions(options_.latents, options_.width, options_.seed, "init/decoder"));
  weights_.encoder.copy_(weights_.decoder);
  weights_.decoder_bias.copy_(statistics.median * input_scale_);
  match_norms();
}

/// Scales the encoder so that unit probes are reconstructed at unit norm on average.
void TopKLearner::match_norms() {
  const torch::Tensor probes = random_directions(256, options_.width, options_.seed, "init/probes");
  select_codes(torch::mm(probes, weights_.encoder.t()), {.k = options_.k}, codes_);
  torch::Tensor output = torch::empty_like(probes);
  decode_codes(codes_.view(), weights_.decoder, {}, output);
  const double norm = output.norm(2, {1}).mean().item<double>();
  if (norm > 0) weights_.encoder.div_(norm);
}

kernels::TopKOptions TopKLearner::selection(const ActivationRows&) { return {.k = options_.k}; }

std::vector<int64_t> TopKLearner::dead_latents() const {
  std::vector<int64_t> dead;
  const int64_t* const since = rows_since_selected_.data_ptr<int64_t>();
  for (int64_t i = 0; i < options_.latents; ++i)
    if (since[i] >= options_.dead_after) dead.push_back(i);
  return dead;
}

/// AuxK: dead latents model the error e = x - x^, without the decoder's bias; its gradients reach their weights only.
/// ||e - e^||^2 / ||e - mean(e)||^2 over the batch. @returns that loss
double TopKLearner::add_auxiliary(const torch::Tensor& centred, const torch::Tensor& error) {
  const std::vector<int64_t> dead = dead_latents();
  const double spread = (error - error.mean(0)).square().sum().item<double>();
  if (dead.empty() || options_.auxiliary_k == 0 || !(spread > 0)) return 0.0;
  select_codes(pre_activations_.index_select(1, torch::tensor(dead)),
               {.k = std::min<int64_t>(options_.auxiliary_k, static_cast<int64_t>(dead.size()))}, auxiliary_codes_);
  for (int32_t& latent : auxiliary_codes_.atoms) latent = static_cast<int32_t>(dead[latent]);
  torch::Tensor difference = torch::empty_like(error);
  decode_codes(auxiliary_codes_.view(), weights_.decoder, {}, difference);
  difference.sub_(error);
  const double loss = difference.square().sum().item<double>() / spread;
  add_code_gradients(auxiliary_codes_, centred, difference.mul_(2.0 * kAuxiliaryWeight / spread), weights_.decoder,
                     gradients_.encoder, gradients_.encoder_bias, gradients_.decoder);
  return loss;
}

void TopKLearner::compute_pre_activations(const torch::Tensor& centred) {
  if (!pre_activations_.defined() || pre_activations_.size(0) != centred.size(0))
    pre_activations_ = torch::empty({centred.size(0), options_.latents});
  torch::addmm_out(pre_activations_, weights_.encoder_bias, centred, weights_.encoder.t());
}

void TopKLearner::select(const ActivationRows& rows, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) {
  compute_pre_activations(centred);
  kernels::TopKOptions options = selection(rows);
  options.k = k;
  select_codes(pre_activations_, options, codes);
}

TopKLearner::Reconstruction TopKLearner::add_reconstruction(const SelectedCodes& codes, const torch::Tensor& x,
                                                            const torch::Tensor& centred, double weight) {
  if (!reconstruction_.defined() || reconstruction_.sizes() != x.sizes()) reconstruction_ = torch::empty_like(x);
  decode_codes(codes.view(), weights_.decoder, weights_.decoder_bias, reconstruction_);
  const torch::Tensor error = x - reconstruction_;
  const torch::Tensor to_reconstruction = error * (-2.0 * weight);
  add_code_gradients(codes, centred, to_reconstruction, weights_.decoder, gradients_.encoder, gradients_.encoder_bias,
                     gradients_.decoder);
  return {error.square().sum().item<double>(), error, to_reconstruction.sum(0)};
}

StepReport TopKLearner::compute_gradients(const ActivationRows& rows) {
  const torch::NoGradGuard no_autograd;
  const int64_t batch = rows.activations.size(0);
  check_inputs(rows.activations, options_.width);
  const torch::Tensor x = rows.activations * input_scale_;
  const torch::Tensor centred = x - weights_.decoder_bias;
  const double spread = static_cast<double>(batch) * variance_;
  for (const auto& [name, gradient] : gradients_.named()) gradient.zero_();

  double more_squares = 0.0;
  torch::Tensor to_output = torch::zeros({options_.width});
  if (options_.multi_top_k) {
    select(rows, centred, std::min(4 * options_.k, options_.latents), more_codes_);
    const Reconstruction more = add_reconstruction(more_codes_, x, centred, kMultiTopKWeight / spread);
    more_squares = kMultiTopKWeight * more.squares;
    to_output += more.to_output;
  }
  select(rows, centred, options_.k, codes_);
  const Reconstruction main = add_reconstruction(codes_, x, centred, 1.0 / spread);
  const double auxiliary = add_auxiliary(centred, main.error);
  // The decoder's bias is added to the output and taken from the encoder's input.
  gradients_.decoder_bias.copy_(to_output + main.to_output - torch::mv(weights_.encoder.t(), gradients_.encoder_bias));

  StepReport report;
  report.fvu = main.error.square().sum().item<double>() / spread;
  report.loss = (main.squares + more_squares) / spread + kAuxiliaryWeight * auxiliary;
  report.l0 = static_cast<double>(codes_.values.size()) / static_cast<double>(batch);
  return report;
}

void TopKLearner::count_selected() {
  int64_t* const since = rows_since_selected_.data_ptr<int64_t>();
  for (int64_t i = 0; i < options_.latents; ++i) since[i] += codes_.rows();
  for (const int32_t latent : codes_.atoms) since[latent] = 0;
}

void TopKLearner::apply_adam(double learning_rate) {
  const double step = static_cast<double>(step_.add_(1).item<int64_t>());
  const AdamStep adam{static_cast<float>(learning_rate), static_cast<float>(1.0 / (1.0 - std::pow(0.9, step))),
                      static_cast<float>(1.0 / (1.0 - std::pow(0.999, step)))};
  const int64_t width = options_.width;
  const auto row = [width](const torch::Tensor& matrix, int64_t i) { return matrix.data_ptr<float>() + i * width; };
  parallel_for(options_.latents, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      adam.apply(row(weights_.encoder, i), row(gradients_.encoder, i), row(first_moments_.encoder, i),
                 row(second_moments_.encoder, i), width);
      // The step stays on the sphere of unit rows: without its part along the row, and back to norm 1 after it.
      float* const atom = row(weights_.decoder, i);
      float* const gradient = row(gradients_.decoder, i);
      const auto along = static_cast<float>(row_dot(atom, gradient, width));
      for (int64_t j = 0; j < width; ++j) gradient[j] -= along * atom[j];
      adam.apply(atom, gradient, row(first_moments_.decoder, i), row(second_moments_.decoder, i), width);
      double norm = std::sqrt(row_dot(atom, atom, width));
      if (!(norm > 1e-8)) {
        RandomStream stream(options_.seed, fmt::format("redraw/{}/{}", i, step));
        for (int64_t j = 0; j < width; ++j) atom[j] = static_cast<float>(stream.normal());
        norm = std::sqrt(row_dot(atom, atom, width));
      }
      for (int64_t j = 0; j < width; ++j) atom[j] = static_cast<float>(atom[j] / norm);
    }
  });
  adam.apply(weights_.encoder_bias.data_ptr<float>(), gradients_.encoder_bias.data_ptr<float>(),
             first_moments_.encoder_bias.data_ptr<float>(), second_moments_.encoder_bias.data_ptr<float>(), options_.latents);
  adam.apply(weights_.decoder_bias.data_ptr<float>(), gradients_.decoder_bias.data_ptr<float>(),
             first_moments_.decoder_bias.data_ptr<float>(), second_moments_.decoder_bias.data_ptr<float>(), width);
}

StepReport TopKLearner::step(const ActivationRows& rows, double learning_rate) {
  const int64_t done = step_.item<int64_t>();
  StepReport report;
  try {
    report = compute_gradients(rows);
  } catch (const Error& error) {
    // Rows are checked where they are read: what fails after a first good step has diverged.
    if (done == 0) throw;
    fail("step {}: {}; train with a lower --learning-rate", done + 1, error.what());
  }
  if (!std::isfinite(report.loss))
    fail("the loss became {} at step {}; train with a lower --learning-rate", report.loss, done + 1);
  count_selected();
  apply_adam(learning_rate);
  report.dead = static_cast<int64_t>(dead_latents().size());
  return report;
}

AutoencoderWeights TopKLearner::unscaled_weights() const {
  // With x = scaled / s: u / s = (x - b / s) encoder^T + encoder_bias / s, so only the biases change, atoms stay of norm 1 and
  // codes are in the inputs' unit.
  return {weights_.encoder.clone(), weights_.encoder_bias / input_scale_, weights_.decoder.clone(),
          weights_.decoder_bias / input_scale_};
}

std::shared_ptr<Dictionary> TopKLearner::dictionary(const Json& origin) const {
  return std::make_shared<TopKDictionary>(unscaled_weights(), options_.k, origin);
}

NamedTensors TopKLearner::state() const {
  NamedTensors state{{"rows_since_selected", rows_since_selected_}, {"step", step_}};
  for (const auto& [weights, prefix] : {std::pair{&weights_, "weights."}, std::pair{&first_moments_, "first_moments."},
                                        std::pair{&second_moments_, "second_moments."}})
    for (const auto& tensor : weights->named(prefix)) state.push_back(tensor);
  return state;
}

void TopKLearner::restore(const SafetensorsFile& file) { restore_tensors(state(), file); }

std::shared_ptr<Dictionary> load_top_k(const Json& config, const SafetensorsFile& file) {
  AutoencoderWeights weights = AutoencoderWeights::load(config, file);
  const int64_t k = load_k(config, file, weights.latents());
  return std::make_shared<TopKDictionary>(std::move(weights), k, config);
}

std::unique_ptr<DictionaryLearner> learn_top_k(const LearnerOptions& options, const ActivationStatistics& statistics) {
  return std::make_unique<TopKLearner>(options, statistics);
}

}  // namespace sememe
