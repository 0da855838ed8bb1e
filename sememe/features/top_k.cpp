#include "sememe/features/top_k.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "sememe/features/tensor_codes.h"
#include "sememe/features/tensor_top_k.h"
#include "sememe/features/sharded_tensors.h"
#include "sememe/kernels/adam.h"
#include "sememe/kernels/sparse_gradients.h"

namespace sememe {
namespace {

constexpr int64_t kPartBytes = int64_t{16} << 20;  // pre-activations of dead latents that exist at a time

}  // namespace

TopKDictionary::TopKDictionary(AutoencoderWeights weights, int64_t k, Json config, std::string architecture)
    : Autoencoder(std::move(weights), std::move(config)), k_(k), architecture_(std::move(architecture)), encoder_(weights_.encoder) {}

SparseCodes TopKDictionary::select(const torch::Tensor& x, const torch::Tensor& gradients, const ScreenedMatrix* decoder,
                                   const kernels::TopKOptions& options) const {
  check_inputs(x, width());
  const torch::NoGradGuard no_autograd;
  SelectedCodes codes;
  select_screened(x.to(torch::kCPU, torch::kFloat) - weights_.decoder_bias, encoder_, weights_.encoder_bias, gradients, decoder, options,
                  codes);
  SparseCodesBuilder builder;
  builder.append(codes);
  return builder.finish();
}

SparseCodes TopKDictionary::encode(const torch::Tensor& x) const {
  return x.is_cpu() ? select(x, {}, nullptr, {.k = k_}) : encode_by_tensors(x);
}

SparseCodes TopKDictionary::select_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor&, int64_t begin) const {
  return top_k_by_tensors(pre_activations, {}, {.k = k_}, begin);
}

int64_t load_k(const Json& config, const SafetensorsFile& file, int64_t latents) {
  const auto k = json_member<int64_t>(config, "k", config_path(file));
  if (k < 1 || k > latents) fail("{}: k {} cannot be with {} latents: 1 <= k <= latents", config_path(file), k, latents);
  return k;
}

TopKLearner::TopKLearner(const LearnerOptions& options, const ActivationStatistics& statistics)
    : options_(options),
      shard_(options.ranks.own_latents(options.latents)),
      weights_(AutoencoderWeights::zeros(shard_.count, options.width)),
      first_moments_(AutoencoderWeights::zeros(shard_.count, options.width)),
      second_moments_(AutoencoderWeights::zeros(shard_.count, options.width)),
      rows_since_selected_(torch::zeros({shard_.count}, torch::kLong)),
      step_(torch::zeros({1}, torch::kLong)) {
  if (options_.auxiliary_k < 0) options_.auxiliary_k = std::max<int64_t>(1, options.width / 2);
  initialize(statistics);
}

void TopKLearner::initialize(const ActivationStatistics& statistics) {
  input_scale_ = std::sqrt(static_cast<double>(options_.width)) / statistics.mean_norm;
  variance_ = statistics.variance * input_scale_ * input_scale_;
  weights_.decoder.copy_(random_directions(shard_.count, options_.width, options_.seed, "init/decoder", shard_.begin));
  weights_.encoder.copy_(weights_.decoder);
  weights_.decoder_bias.copy_(statistics.median * input_scale_);
  match_norms();
}

/// Scales the encoder so that unit probes are reconstructed at unit norm on average.
void TopKLearner::match_norms() {
  const torch::Tensor probes = random_directions(256, options_.width, options_.seed, "init/probes");
  SelectedCodes codes;
  select_codes(torch::mm(probes, weights_.encoder.t()), {.k = std::min(options_.k, shard_.count)}, codes);
  keep_largest_of_row(codes, options_.k, shard_.begin, options_.ranks.latents);
  torch::Tensor output = torch::empty_like(probes);
  decode_all_shards(codes, false, output);
  const double norm = output.norm(2, {1}).mean().item<double>();
  if (norm > 0) weights_.encoder.div_(norm);
  encoder_ = ScreenedMatrix(weights_.encoder);
}

void TopKLearner::select(const ActivationRows&, const torch::Tensor& centred, int64_t k, SelectedCodes& codes) {
  select_screened(centred, encoder_, weights_.encoder_bias, {}, nullptr, {.k = std::min(k, shard_.count)}, codes);
  keep_largest_of_row(codes, k, shard_.begin, options_.ranks.latents);
}

void TopKLearner::decode_all_shards(const SelectedCodes& codes, bool with_bias, torch::Tensor& reconstruction) const {
  const Ranks& shards = options_.ranks.latents;
  decode_codes(codes.view(), weights_.decoder, with_bias && shards.first() ? weights_.decoder_bias : torch::Tensor(), reconstruction);
  shards.sum(numbers_of(reconstruction));
}

std::vector<int64_t> TopKLearner::dead_latents() const {
  std::vector<int64_t> dead;
  const int64_t* const since = rows_since_selected_.data_ptr<int64_t>();
  for (int64_t i = 0; i < shard_.count; ++i)
    if (since[i] >= options_.dead_after) dead.push_back(i);
  return dead;
}

/// The largest pre-activations of dead latents, whose product is small enough to be computed in full.
void TopKLearner::select_dead(const std::vector<int64_t>& dead, int64_t k) {
  if (dead.empty()) {
    auxiliary_codes_ = {std::vector<int64_t>(centred_.size(0) + 1, 0), {}, {}, {}};
    return;
  }
  const torch::Tensor chosen = torch::tensor(dead);
  const torch::Tensor encoder = weights_.encoder.index_select(0, chosen), bias = weights_.encoder_bias.index_select(0, chosen);
  const auto count = static_cast<int64_t>(dead.size()), part = std::max<int64_t>(64, kPartBytes / (4 * count));
  SelectedCodes& codes = auxiliary_codes_;
  codes.offsets.assign(1, 0);
  codes.atoms.clear();
  codes.values.clear();
  SelectedCodes some;
  for (int64_t begin = 0; begin < centred_.size(0); begin += part) {
    const torch::Tensor rows = centred_.narrow(0, begin, std::min(part, centred_.size(0) - begin));
    select_codes(torch::addmm(bias, rows, encoder.t()), {.k = std::min(k, count)}, some);
    for (const int32_t place : some.atoms) codes.atoms.push_back(static_cast<int32_t>(dead[place]));
    codes.values.insert(codes.values.end(), some.values.begin(), some.values.end());
    const int64_t before = codes.offsets.back();
    for (int64_t row = 1; row <= some.rows(); ++row) codes.offsets.push_back(before + some.offsets[row]);
  }
}

/// AuxK: dead latents model the error e = x - x^, without the decoder's bias; its gradients reach their weights only.
/// ||e - e^||^2 / ||e - mean(e)||^2 over the batch. @returns that loss
double TopKLearner::add_auxiliary(const torch::Tensor& error) {
  const std::vector<int64_t> dead = dead_latents();
  const RankGrid& ranks = options_.ranks;
  auto all_dead = static_cast<int64_t>(dead.size());
  ranks.latents.sum(std::span(&all_dead, 1));
  torch::Tensor mean = error.mean(0);
  if (!ranks.rows.alone()) {
    ranks.rows.sum(numbers_of(mean));
    mean.div_(ranks.rows.size());
  }
  double spread = (error - mean).square().sum().item<double>();
  ranks.rows.sum(std::span(&spread, 1));
  if (all_dead == 0 || options_.auxiliary_k == 0 || !(spread > 0)) return 0.0;
  const int64_t k = std::min(options_.auxiliary_k, all_dead);
  select_dead(dead, k);
  keep_largest_of_row(auxiliary_codes_, k, shard_.begin, ranks.latents);
  torch::Tensor difference = torch::empty_like(error);
  decode_all_shards(auxiliary_codes_, false, difference);
  difference.sub_(error);
  double squares = difference.square().sum().item<double>();
  ranks.rows.sum(std::span(&squares, 1));
  const double loss = squares / spread;
  add_term(auxiliary_codes_, difference.mul_(2.0 * kAuxiliaryWeight / spread));
  return loss;
}

void TopKLearner::add_term(const SelectedCodes& codes, torch::Tensor output_gradients) {
  Term term{&codes, kernels::columns_of(codes.view(), shard_.count), std::vector<float>(codes.values.size()),
            std::move(output_gradients)};
  kernels::sparse_code_gradients(codes.view(), term.output_gradients.data_ptr<float>(), weights_.decoder.data_ptr<float>(),
                                 shard_.count, options_.width, term.code_gradients.data());
  kernels::add_bias_gradients(term.columns, term.code_gradients.data(), gradients_.encoder_bias.data_ptr<float>());
  terms_.push_back(std::move(term));
}

TopKLearner::Reconstruction TopKLearner::add_reconstruction(const SelectedCodes& codes, const torch::Tensor& x, double weight) {
  if (!reconstruction_.defined() || reconstruction_.sizes() != x.sizes()) reconstruction_ = torch::empty_like(x);
  decode_all_shards(codes, true, reconstruction_);
  const torch::Tensor error = x - reconstruction_;
  const torch::Tensor to_reconstruction = error * (-2.0 * weight);
  add_term(codes, to_reconstruction);
  return {error.square().sum().item<double>(), error, to_reconstruction.sum(0)};
}

StepReport TopKLearner::read_batch(const ActivationRows& rows) {
  const RankGrid& ranks = options_.ranks;
  const int64_t batch = rows.activations.size(0) * ranks.rows.size();
  check_inputs(rows.activations, options_.width);
  const torch::Tensor x = rows.activations * input_scale_;
  centred_ = x - weights_.decoder_bias;
  const double spread = static_cast<double>(batch) * variance_;
  terms_.clear();
  gradients_.encoder_bias = torch::zeros({shard_.count});

  double more_squares = 0.0;
  torch::Tensor to_output = torch::zeros({options_.width});
  if (options_.multi_top_k) {
    select(rows, centred_, std::min(4 * options_.k, options_.latents), more_codes_);
    const Reconstruction more = add_reconstruction(more_codes_, x, kMultiTopKWeight / spread);
    more_squares = kMultiTopKWeight * more.squares;
    to_output += more.to_output;
  }
  select(rows, centred_, options_.k, codes_);
  const Reconstruction main = add_reconstruction(codes_, x, 1.0 / spread);
  const double auxiliary = add_auxiliary(main.error);
  // The decoder's bias is added to the output and taken from the encoder's input.
  torch::Tensor to_input = torch::mv(weights_.encoder.t(), gradients_.encoder_bias);
  ranks.latents.sum(numbers_of(to_input));
  gradients_.decoder_bias = to_output + main.to_output - to_input;
  ranks.rows.sum(numbers_of(gradients_.decoder_bias));
  ranks.rows.sum(numbers_of(gradients_.encoder_bias));

  double sums[] = {main.error.square().sum().item<double>(), main.squares + more_squares};
  ranks.rows.sum(sums);
  auto selected = static_cast<int64_t>(codes_.values.size());
  ranks.all.sum(std::span(&selected, 1));
  StepReport report;
  report.fvu = sums[0] / spread;
  report.loss = sums[1] / spread + kAuxiliaryWeight * auxiliary;
  report.l0 = static_cast<double>(selected) / static_cast<double>(batch);
  return report;
}

void TopKLearner::add_gradients(int64_t latent, float* encoder_gradient, float* decoder_gradient) const {
  for (const Term& term : terms_) {
    kernels::add_atom_gradient(term.columns, latent, term.code_gradients.data(), centred_.data_ptr<float>(), options_.width,
                               encoder_gradient);
    kernels::add_atom_gradient(term.columns, latent, term.codes->values.data(), term.output_gradients.data_ptr<float>(), options_.width,
                               decoder_gradient);
  }
}

StepReport TopKLearner::compute_gradients(const ActivationRows& rows) {
  const torch::NoGradGuard no_autograd;
  const StepReport report = read_batch(rows);
  compute_latent_gradients();
  return report;
}

/// The gradients of all latents of the shard, over the rows of all ranks.
void TopKLearner::compute_latent_gradients() {
  gradients_.encoder = torch::zeros_like(weights_.encoder);
  gradients_.decoder = torch::zeros_like(weights_.decoder);
  float* const encoder = gradients_.encoder.data_ptr<float>();
  float* const decoder = gradients_.decoder.data_ptr<float>();
  parallel_for(shard_.count, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) add_gradients(i, encoder + i * options_.width, decoder + i * options_.width);
  });
  options_.ranks.rows.sum(numbers_of(gradients_.encoder));
  options_.ranks.rows.sum(numbers_of(gradients_.decoder));
}

void TopKLearner::count_selected() {
  int64_t* const since = rows_since_selected_.data_ptr<int64_t>();
  std::vector<int64_t> selected(shard_.count, 0);
  for (const int32_t latent : codes_.atoms) selected[latent] = 1;
  options_.ranks.rows.largest(selected);
  const int64_t rows = codes_.rows() * options_.ranks.rows.size();
  for (int64_t i = 0; i < shard_.count; ++i) since[i] = selected[i] != 0 ? 0 : since[i] + rows;
}

void TopKLearner::apply_adam(double learning_rate) {
  const auto steps = step_.add_(1).item<int64_t>();
  const auto adam = kernels::AdamStep::at(steps, learning_rate);
  const int64_t width = options_.width;
  const auto row = [width](const torch::Tensor& matrix, int64_t i) { return matrix.data_ptr<float>() + i * width; };
  // Alone, a latent's gradients live only until they are used; with other ranks' they are summed, all at once.
  const bool summed = !options_.ranks.rows.alone();
  if (summed) compute_latent_gradients();
  parallel_for(shard_.count, 64, [&](int64_t begin, int64_t end) {
    std::vector<float> own_encoder(width), own_decoder(width);
    for (int64_t i = begin; i < end; ++i) {
      float* const encoder_gradient = summed ? row(gradients_.encoder, i) : own_encoder.data();
      float* const decoder_gradient = summed ? row(gradients_.decoder, i) : own_decoder.data();
      if (!summed) {
        std::fill(own_encoder.begin(), own_encoder.end(), 0.0f);
        std::fill(own_decoder.begin(), own_decoder.end(), 0.0f);
        add_gradients(i, encoder_gradient, decoder_gradient);
      }
      kernels::adam(adam, row(weights_.encoder, i), encoder_gradient, row(first_moments_.encoder, i), row(second_moments_.encoder, i),
                    width);
      float* const atom = row(weights_.decoder, i);
      const float norm =
          kernels::adam_unit_row(adam, atom, decoder_gradient, row(first_moments_.decoder, i), row(second_moments_.decoder, i), width);
      if (!(norm >= kLeastAtomNorm))
        weights_.decoder[i].copy_(random_directions(1, width, options_.seed, fmt::format("redraw/{}/{}", shard_.begin + i, steps))[0]);
      refresh(i);
    }
  });
  kernels::adam(adam, weights_.encoder_bias.data_ptr<float>(), gradients_.encoder_bias.data_ptr<float>(),
                first_moments_.encoder_bias.data_ptr<float>(), second_moments_.encoder_bias.data_ptr<float>(), shard_.count);
  kernels::adam(adam, weights_.decoder_bias.data_ptr<float>(), gradients_.decoder_bias.data_ptr<float>(),
                first_moments_.decoder_bias.data_ptr<float>(), second_moments_.decoder_bias.data_ptr<float>(), width);
}

StepReport TopKLearner::step(const ActivationRows& rows, double learning_rate) {
  const torch::NoGradGuard no_autograd;
  const int64_t done = step_.item<int64_t>();
  StepReport report;
  try {
    report = read_batch(rows);
  } catch (const Error& error) {
    // Rows are checked where they are read: what fails after a first good step has diverged.
    if (done == 0) throw;
    fail("step {}: {}; train with a lower --learning-rate", done + 1, error.what());
  }
  check_loss(report.loss, done + 1);
  count_selected();
  apply_adam(learning_rate);
  report.dead = static_cast<int64_t>(dead_latents().size());
  options_.ranks.latents.sum(std::span(&report.dead, 1));
  return report;
}

AutoencoderWeights TopKLearner::unscaled_weights() const {
  // With x = scaled / s: u / s = (x - b / s) encoder^T + encoder_bias / s, so only the biases change, atoms stay of norm 1 and
  // codes are in the inputs' unit.
  const Ranks& shards = options_.ranks.latents;
  return {gather_rows(weights_.encoder, shards), gather_rows(weights_.encoder_bias, shards) / input_scale_,
          gather_rows(weights_.decoder, shards), weights_.decoder_bias / input_scale_};
}

std::shared_ptr<Dictionary> TopKLearner::dictionary(const Json& origin) const {
  return std::make_shared<TopKDictionary>(unscaled_weights(), options_.k, origin);
}

NamedTensors TopKLearner::state() const {
  NamedTensors state{{"rows_since_selected", rows_since_selected_}, {"step", step_}};
  for (const auto& tensor : named_with_moments(weights_, first_moments_, second_moments_)) state.push_back(tensor);
  return state;
}

bool TopKLearner::is_sharded(std::string_view name) const {
  return name == "rows_since_selected" || name.ends_with(".encoder") || name.ends_with(".encoder_bias") || name.ends_with(".decoder");
}

void TopKLearner::restore(const SafetensorsFile& file) {
  for (auto& [name, tensor] : state()) {
    torch::Tensor saved = load_tensor(file, name);
    if (is_sharded(name) && saved.dim() > 0 && saved.size(0) == options_.latents) saved = saved.narrow(0, shard_.begin, shard_.count);
    if (saved.sizes() != tensor.sizes() || saved.scalar_type() != tensor.scalar_type())
      fail("{}: the tensor \"{}\" has another shape or type than this training", file.path().string(), name);
    torch::Tensor(tensor).copy_(saved);
  }
  for (int64_t latent = 0; latent < shard_.count; ++latent) refresh(latent);
}

std::shared_ptr<Dictionary> load_top_k(const Json& config, const SafetensorsFile& file) {
  AutoencoderWeights weights = AutoencoderWeights::load(config, file);
  const int64_t k = load_k(config, file, weights.latents());
  return std::make_shared<TopKDictionary>(std::move(weights), k, config,
                                          json_member<std::string>(config, "architecture", config_path(file)));
}

std::unique_ptr<DictionaryLearner> learn_top_k(const LearnerOptions& options, const ActivationStatistics& statistics) {
  if (!options.device.is_cpu()) return learn_by_tensors("topk", options, statistics);
  return std::make_unique<TopKLearner>(options, statistics);
}

}  // namespace sememe
