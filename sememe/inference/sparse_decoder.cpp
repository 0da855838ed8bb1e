#include "sememe/inference/sparse_decoder.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/inference/token_policies.h"

namespace sememe {
namespace {

using Clock = std::chrono::steady_clock;

/// Neurons by the length of their columns of down, the longest first.
std::vector<int32_t> by_magnitude(const TransformerWeights& weights, int64_t layer) {
  std::vector<std::byte> room;
  const GgufTensor down = weights.source().matrix(fmt::format("block{}.down", layer), room);
  const std::vector<float> values = dequantize(down);
  const int64_t neurons = down.shape.at(1);
  std::vector<double> squares(neurons);
  for (size_t i = 0; i < values.size(); ++i) squares[i % neurons] += static_cast<double>(values[i]) * values[i];
  return by_falling(squares);
}

bool is_relu(FeedForward kind) { return kind == FeedForward::kRelu || kind == FeedForward::kGatedRelu; }

}  // namespace

std::span<const SparsePolicyEntry> sparse_policies() {
  static constexpr SparsePolicyEntry kEntries[] = {
      {SparsePolicy::kDense, "dense", false, false},
      {SparsePolicy::kCoreStability, "coreinfer-stability", false, true},
      {SparsePolicy::kCoreSimilarity, "coreinfer-similarity", true, true},
      {SparsePolicy::kPartInfer, "partinfer", true, true},
      {SparsePolicy::kStatic, "static", true, true},
      {SparsePolicy::kMagnitude, "magnitude", false, true},
      {SparsePolicy::kRandom, "random", false, true},
      {SparsePolicy::kOracle, "oracle", false, false},
      {SparsePolicy::kCats, "cats", true, false},
      {SparsePolicy::kTeal, "teal", true, false},
      {SparsePolicy::kDejaVu, "dejavu", true, false, true},
      {SparsePolicy::kPowerInfer, "powerinfer", true, false, true, true},
  };
  return kEntries;
}

bool SparsePolicyEntry::fits(const TransformerConfig& config, const NeuronProfile* profile) const {
  return (!needs_profile || profile != nullptr) && (!needs_predictors || profile->predictors != nullptr) && (!needs_relu || is_relu(config.feed_forward));
}

const SparsePolicyEntry& find_sparse_policy(std::string_view name) {
  std::vector<std::string_view> names;
  for (const SparsePolicyEntry& entry : sparse_policies()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  fail_usage("there is no policy \"{}\"; there are {}", name, fmt::join(names, ", "));
}

SparseDecoder::SparseDecoder(QuantizedTransformer& engine, const SparsityOptions& options, std::shared_ptr<const NeuronProfile> profile)
    : engine_(engine), options_(options), entry_(find_sparse_policy(options.policy)), profile_(std::move(profile)),
      layers_(options.layers.value_or(middle_layers(engine.config()))) {
  const TransformerConfig& config = engine.config();
  if (layers_.first < 0 || layers_.last >= config.layers || layers_.first > layers_.last)
    fail_usage("layers {} to {}: the model has layers 0 to {}", layers_.first, layers_.last, config.layers - 1);
  if (options.refresh < 0) fail_usage("the number of tokens after which a set is chosen anew cannot be negative");
  kept_of(options.keep, config.feed_forward_width);
  const bool listed = entry_.policy == SparsePolicy::kPartInfer && !options.neurons.empty();
  if (entry_.needs_profile && profile_ == nullptr && !listed)
    fail_usage("the policy {} needs a profile of the model; sememe model profile makes one", entry_.name);
  switch (entry_.policy) {
    case SparsePolicy::kPartInfer:
      if (!(options.base > 0 && options.base <= options.keep && options.keep <= options.loaded && options.loaded <= 1))
        fail_usage("partinfer wants 0 < base <= keep <= loaded <= 1, not {}, {} and {}", options.base, options.keep, options.loaded);
      if (listed)
        important_ = load_neuron_list(options.neurons, config);
      else
        for (int64_t layer = 0; layer < config.layers; ++layer) important_.push_back(profile_->by_importance(layer));
      [[fallthrough]];
    case SparsePolicy::kCoreStability:
      core_ = std::make_unique<CoreNeurons>(config, options.core, layers_, engine.threads());
      break;
    case SparsePolicy::kCoreSimilarity: {
      const int64_t layer = profile_->clusters.layer;
      similarity_ = std::make_unique<CoreNeurons>(config, CoreNeuronOptions{.token_share = profile_->token_share}, LayerRange{layer, layer}, engine.threads());
      break;
    }
    case SparsePolicy::kOracle: each_token_ = std::make_unique<LargestActivations>(options.keep, layers_); break;
    case SparsePolicy::kCats: {
      std::vector<float> thresholds;
      for (const std::vector<float>& table : profile_->gates) thresholds.push_back(NeuronProfile::quantile(table, 1 - options.keep));
      each_token_ = std::make_unique<GateThresholds>(config.feed_forward, std::move(thresholds), layers_);
      break;
    }
    case SparsePolicy::kTeal: {
      std::vector<std::array<float, kMatrixInputs>> thresholds(config.layers);
      for (int64_t layer = 0; layer < config.layers; ++layer) {
        InputShares shares;
        shares.fill(static_cast<float>(1 - options.keep));
        if (!profile_->input_paths.empty()) shares = point_at(config, profile_->input_paths[layer], 1 - options.keep);
        for (int input = 0; input < kMatrixInputs; ++input)
          thresholds[layer][input] = shares[input] > 0 ? NeuronProfile::quantile(profile_->inputs[layer][input], shares[input]) : 0.0f;
      }
      each_token_ = std::make_unique<InputThresholds>(std::move(thresholds), layers_);
      break;
    }
    case SparsePolicy::kDejaVu:
    case SparsePolicy::kPowerInfer: {
      if (profile_->predictors == nullptr)
        fail_usage("the policy {} needs predictors in the profile; sememe model profile --predictors trains them", entry_.name);
      std::vector<std::vector<int32_t>> always(config.layers);
      const bool power = entry_.policy == SparsePolicy::kPowerInfer;
      if (power && !is_relu(config.feed_forward))
        fail_usage("powerinfer works on models whose MLPs have a ReLU, where neurons are off; this one has none");
      // Hot are those that make up half of what is to be kept, by how often they fire.
      for (int64_t layer = 0; power && layer < config.layers; ++layer) {
        always[layer] = by_falling({profile_->positive[layer].begin(), profile_->positive[layer].end()});
        always[layer].resize(kept_of(options.keep / 2, config.feed_forward_width));
      }
      each_token_ = std::make_unique<PredictedNeurons>(profile_->predictors, power ? PredictedNeurons::Rule::kLikely : PredictedNeurons::Rule::kBest,
                                                       options.keep, std::move(always), layers_);
      break;
    }
    case SparsePolicy::kDense:
    case SparsePolicy::kStatic:
    case SparsePolicy::kMagnitude:
    case SparsePolicy::kRandom: break;
  }
}

SparseDecoder::~SparseDecoder() = default;

/// Of each layer of the range the neurons that lead its ranking.
NeuronSets SparseDecoder::leading(const std::vector<std::vector<int32_t>>& rankings) const {
  NeuronSets sets(engine_.config().layers);
  for (int64_t layer = layers_.first; layer <= layers_.last; ++layer) {
    std::vector<int32_t> set = rankings.at(layer);
    set.resize(std::min<size_t>(set.size(), static_cast<size_t>(kept_of(options_.keep, engine_.config().feed_forward_width))));
    if (set.empty()) continue;
    std::sort(set.begin(), set.end());
    sets[layer] = std::move(set);
  }
  return sets;
}

NeuronSets SparseDecoder::fixed_sets() const {
  std::vector<std::vector<int32_t>> rankings(engine_.config().layers);
  for (int64_t layer = layers_.first; layer <= layers_.last; ++layer) {
    if (entry_.policy == SparsePolicy::kMagnitude) {
      rankings[layer] = by_magnitude(engine_.weights(), layer);
    } else if (entry_.policy == SparsePolicy::kRandom) {
      RandomStream stream(options_.seed, fmt::format("random-neurons/{}", layer));
      const std::vector<int64_t> order = permutation(engine_.config().feed_forward_width, stream);
      rankings[layer].assign(order.begin(), order.end());
    } else {
      rankings[layer] = profile_->by_frequency(layer);
    }
  }
  return leading(rankings);
}

NeuronSets SparseDecoder::part_infer_sets() const {
  const int64_t width = engine_.config().feed_forward_width;
  const auto base = static_cast<size_t>(kept_of(options_.base, width)), loaded = static_cast<size_t>(kept_of(options_.loaded, width));
  std::vector<std::vector<int32_t>> rankings(engine_.config().layers);
  for (int64_t layer = layers_.first; layer <= layers_.last; ++layer) {
    const std::vector<int32_t>& important = important_[layer];
    std::vector<int32_t>& ranking = rankings[layer];
    ranking.assign(important.begin(), important.begin() + static_cast<std::ptrdiff_t>(std::min(base, important.size())));
    std::vector<bool> open(width);
    for (size_t i = base; i < std::min(loaded, important.size()); ++i) open[important[i]] = true;
    for (const int32_t neuron : core_->ranking(layer))
      if (open[neuron]) ranking.push_back(neuron);
  }
  return leading(rankings);
}

NeuronSets SparseDecoder::similar_sets() const {
  const NeuronClusters& clusters = profile_->clusters;
  return leading(clusters.rankings.at(clusters.nearest(clusters.vector_of(*similarity_))));
}

void SparseDecoder::keep(NeuronSets sets) {
  const bool any = std::any_of(sets.begin(), sets.end(), [](const auto& set) { return set.has_value(); });
  dense_ = !any;
  if (any) subset_ = engine_.keep(std::move(sets), std::move(subset_));
}

void SparseDecoder::choose() {
  const auto begin = Clock::now();
  switch (entry_.policy) {
    case SparsePolicy::kCoreStability: keep(core_->sets(options_.keep)); break;
    case SparsePolicy::kPartInfer: keep(part_infer_sets()); break;
    case SparsePolicy::kCoreSimilarity: keep(similar_sets()); break;
    case SparsePolicy::kStatic:
    case SparsePolicy::kMagnitude:
    case SparsePolicy::kRandom:
      if (dense_) keep(fixed_sets());  // the same for every text
      break;
    default: dense_ = entry_.policy == SparsePolicy::kDense; break;
  }
  since_.clear();
  seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
}

std::span<const float> SparseDecoder::read(std::span<const TokenRun> prompts, LogitsOf wanted, RowVisitor* sites) {
  int64_t tokens = 0;
  for (const TokenRun& prompt : prompts) tokens += static_cast<int64_t>(prompt.ids.size());
  CoreNeurons* const watching = core_ != nullptr ? core_.get() : similarity_.get();
  if (watching != nullptr) watching->clear();
  const std::span<const float> logits = engine_.forward(prompts, wanted, {.sites = sites, .inputs = watching});
  exception_.clear();
  if (core_ != nullptr && tokens < options_.least_prompt) {
    const auto begin = Clock::now();
    if (profile_ != nullptr)
      keep(fixed_sets());
    else
      dense_ = true;
    exception_ = fmt::format("the prompt has {} tokens, too few to choose neurons by: {}", tokens,
                             profile_ != nullptr ? "the profile's most frequent ones are kept" : "all take part");
    since_.clear();
    seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
  } else {
    choose();
    if (entry_.one_set && dense_) exception_ = "no neuron fired in the prompt: all take part";
  }
  return logits;
}

/// The tokens since the last choice once more, with all neurons, so that their own core counts.
void SparseDecoder::read_again(const TokenRun& run) {
  const auto again = static_cast<int64_t>(since_.size());
  run.cache->set_tokens(run.cache->tokens() - again);
  const TokenRun last{since_, run.cache};
  engine_.forward({&last, 1}, LogitsOf::kLastTokens, {.inputs = core_.get()});
  choose();
}

std::span<const float> SparseDecoder::decode(std::span<const TokenRun> runs, LogitsOf wanted, RowVisitor* sites) {
  PassWatchers watchers{.sites = sites};
  if (!dense_ && entry_.one_set) watchers.subset = subset_.get();
  if (!dense_ && !entry_.one_set) watchers.inputs = each_token_.get();
  if (options_.refresh > 0 && core_ != nullptr) {
    if (runs.size() != 1) fail_usage("a set is chosen anew for one text at a time");
    if (static_cast<int64_t>(since_.size()) >= options_.refresh) {
      read_again(runs[0]);
      watchers.subset = dense_ ? nullptr : subset_.get();
    }
    since_.insert(since_.end(), runs[0].ids.begin(), runs[0].ids.end());
  }
  return engine_.forward(runs, wanted, watchers);
}

}  // namespace sememe
