#include "sememe/inference/core_neurons.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "sememe/base/error.h"

namespace sememe {
namespace {

// Of a positive float the exponent and four bits more: 4,096 bins, each of values within a sixteenth.
constexpr int kBinShift = 19;
constexpr int64_t kBins = 1 << (31 - kBinShift);

size_t bin_of(float value) { return std::bit_cast<uint32_t>(value) >> kBinShift; }

/// What a token's neurons are ranked by, before the choice of positive ones.
const float* ranked(const InputRows& rows, int64_t token, RankBy rank_by) {
  const float* const from = rank_by == RankBy::kGate && rows.gate != nullptr ? rows.gate : rows.values;
  return from + token * rows.stride;
}

/// How many there are that are positive, or of any size but zero. A NaN is none, which the logits will tell of.
int64_t positives(const float* row, int64_t width, RankBy rank_by) {
  int32_t count = 0;
  if (rank_by == RankBy::kAbsoluteProduct)
    for (int64_t i = 0; i < width; ++i) count += std::abs(row[i]) > 0.0f;
  else
    for (int64_t i = 0; i < width; ++i) count += row[i] > 0.0f;
  return count;
}

}  // namespace

int64_t kept_of(double keep, int64_t width) {
  if (!(keep > 0.0 && keep <= 1.0)) fail_usage("the share of neurons to keep is {}; it must be above 0 and at most 1", keep);
  return std::clamp<int64_t>(std::llround(keep * static_cast<double>(width)), 1, width);
}

LayerRange middle_layers(const TransformerConfig& config) {
  const auto part = [&](double of_32) { return static_cast<int64_t>(std::floor(of_32 / 32.0 * static_cast<double>(config.layers))); };
  return {std::min(part(5) + 1, config.layers - 1), std::max(part(27) - 1, std::min(part(5) + 1, config.layers - 1))};
}

CoreNeurons::CoreNeurons(const TransformerConfig& config, const CoreNeuronOptions& options, LayerRange layers, int threads)
    : config_(config), options_(options), layers_(layers), own_(threads) {
  if (!(options.token_share > 0.0 && options.token_share <= 1.0))
    fail_usage("the share of a token's positive activations is {}; it must be above 0 and at most 1", options.token_share);
  if (layers.first < 0 || layers.last >= config.layers || layers.first > layers.last)
    fail_usage("layers {} to {}: the model has layers 0 to {}", layers.first, layers.last, config.layers - 1);
  for (Own& own : own_) {
    own.layers.resize(config.layers);
    for (int64_t layer = layers.first; layer <= layers.last; ++layer)
      own.layers[layer] = {std::vector<int32_t>(config.feed_forward_width), std::vector<int64_t>(config.feed_forward_width)};
    own.values.reserve(config.feed_forward_width), own.neurons.reserve(config.feed_forward_width);
    own.candidates.reserve(config.feed_forward_width);
    own.histogram.resize(kBins);
  }
}

void CoreNeurons::clear() {
  for (Own& own : own_) {
    own.tokens = 0;
    for (Layer& layer : own.layers) {
      std::fill(layer.counts.begin(), layer.counts.end(), 0);
      std::fill(layer.sums.begin(), layer.sums.end(), 0);
    }
  }
}

/// Which neurons are positive, with their values.
void CoreNeurons::take_positives(const float* row, int64_t width, Own& own) const {
  size_t count = 0;
  own.values.resize(width), own.neurons.resize(width);
  for (int64_t i = 0; i < width; ++i) {
    const float value = options_.rank_by == RankBy::kAbsoluteProduct ? std::abs(row[i]) : row[i];
    own.values[count] = value, own.neurons[count] = static_cast<int32_t>(i);
    count += value > 0.0f;
  }
  own.values.resize(count), own.neurons.resize(count);
}

/// The `number`-th largest of own.values, of which there are at least so many.
float CoreNeurons::least_of_core(Own& own, int64_t number) const {
  std::fill(own.histogram.begin(), own.histogram.end(), 0);
  for (const float value : own.values) ++own.histogram[bin_of(value)];
  int64_t above = 0, bin = kBins - 1;
  for (; bin > 0 && above + own.histogram[bin] < number; --bin) above += own.histogram[bin];
  own.candidates.clear();
  for (const float value : own.values)
    if (static_cast<int64_t>(bin_of(value)) == bin) own.candidates.push_back(value);
  const auto wanted = own.candidates.begin() + (number - above - 1);
  std::nth_element(own.candidates.begin(), wanted, own.candidates.end(), std::greater<>());
  return *wanted;
}

void CoreNeurons::visit(const InputRows& rows, int64_t first, int64_t last, int thread, int) {
  Own& own = own_.at(thread);
  Layer& layer = own.layers[rows.layer];
  if (rows.layer == layers_.first) own.tokens += last - first;
  int64_t all = 0;
  for (int64_t t = 0; !options_.own_number && t < rows.tokens; ++t) all += positives(ranked(rows, t, options_.rank_by), rows.width, options_.rank_by);
  for (int64_t t = first; t < last; ++t) {
    take_positives(ranked(rows, t, options_.rank_by), rows.width, own);
    const auto there = static_cast<int64_t>(own.values.size());
    if (there == 0) continue;
    const double positive = options_.own_number ? static_cast<double>(there) : static_cast<double>(all) / static_cast<double>(rows.tokens);
    const auto number = static_cast<int64_t>(options_.token_share * positive);
    const float least = number > there ? 0.0f : least_of_core(own, std::max<int64_t>(number, 1));
    for (int64_t i = 0; i < there; ++i) {
      if (own.values[i] < least) continue;
      ++layer.counts[own.neurons[i]];
      layer.sums[own.neurons[i]] += static_cast<int64_t>(std::min(own.values[i], 0x1p30f) * 0x1p16f);
    }
  }
}

int64_t CoreNeurons::tokens() const {
  int64_t tokens = 0;
  for (const Own& own : own_) tokens += own.tokens;
  return tokens;
}

std::vector<int32_t> CoreNeurons::counts(int64_t layer) const {
  std::vector<int32_t> counts(config_.feed_forward_width);
  for (const Own& own : own_)
    for (int64_t i = 0; i < config_.feed_forward_width; ++i) counts[i] += own.layers.at(layer).counts.at(i);
  return counts;
}

std::vector<int32_t> CoreNeurons::leading(int64_t layer, size_t most, bool ordered) const {
  const std::vector<int32_t> frequency = counts(layer);
  std::vector<int64_t> sums(frequency.size());
  for (const Own& own : own_)
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += own.layers[layer].sums[i];
  std::vector<int32_t> found;
  for (size_t i = 0; i < frequency.size(); ++i)
    if (frequency[i] > 0) found.push_back(static_cast<int32_t>(i));
  const auto before = [&](int32_t a, int32_t b) {
    if (frequency[a] != frequency[b]) return frequency[a] > frequency[b];
    return sums[a] != sums[b] ? sums[a] > sums[b] : a < b;
  };
  if (found.size() > most) {
    std::nth_element(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(most), found.end(), before);
    found.resize(most);
  }
  if (ordered) std::sort(found.begin(), found.end(), before);
  return found;
}

std::vector<int32_t> CoreNeurons::ranking(int64_t layer) const { return leading(layer, static_cast<size_t>(config_.feed_forward_width), true); }

NeuronSets CoreNeurons::sets(double keep) const {
  const auto kept = static_cast<size_t>(kept_of(keep, config_.feed_forward_width));
  NeuronSets sets(config_.layers);
  for (int64_t layer = layers_.first; layer <= layers_.last; ++layer) {
    std::vector<int32_t> set = leading(layer, kept, false);
    if (set.empty()) continue;
    std::sort(set.begin(), set.end());
    sets[layer] = std::move(set);
  }
  return sets;
}

}  // namespace sememe
