#include <algorithm>
#include <bit>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/inference/neuron_profile.h"
#include "sememe/inference/unit_of.h"

namespace sememe {
namespace {

// The size of a float by its exponent and seven bits more: bins of less than a hundredth.
constexpr int kBinShift = 16;
constexpr int64_t kBins = 1 << (31 - kBinShift);

class SizeHistogram {
 public:
  void add(float value) {
    if (counts_.empty()) counts_.resize(kBins);
    ++counts_[(std::bit_cast<uint32_t>(value) & 0x7fffffffu) >> kBinShift];
  }
  void add(const SizeHistogram& other) {
    counts_.resize(kBins);
    for (size_t i = 0; i < other.counts_.size(); ++i) counts_[i] += other.counts_[i];
  }
  /// The lower edge of the bin in which each quantile lies; of the last, the upper one.
  std::vector<float> quantiles() const {
    std::vector<float> table(NeuronProfile::kQuantiles);
    int64_t all = 0;
    for (const int64_t count : counts_) all += count;
    int64_t below = 0, bin = 0;
    for (int i = 0; i < NeuronProfile::kQuantiles; ++i) {
      const double wanted = static_cast<double>(all) * i / (NeuronProfile::kQuantiles - 1);
      while (bin + 1 < static_cast<int64_t>(counts_.size()) && static_cast<double>(below + counts_[bin]) <= wanted && below + counts_[bin] < all)
        below += counts_[bin++];
      table[i] = std::bit_cast<float>(static_cast<uint32_t>(bin) << kBinShift);
    }
    table.back() = std::bit_cast<float>(static_cast<uint32_t>(std::min(bin + 1, kBins - 0x80 - 1)) << kBinShift);
    return table;
  }

 private:
  std::vector<int64_t> counts_;
};

/// Sizes of inputs and what fires, of all texts; and the core neurons of the text at hand.
class Collector : public InputVisitor {
 public:
  Collector(const TransformerConfig& config, const ProfileOptions& options, int threads)
      : config_(config), core_(config, {.token_share = options.token_share}, {0, config.layers - 1}, threads), own_(threads) {
    for (Own& own : own_) {
      own.layers.resize(config.layers);
      own.gate.resize(config.feed_forward_width);
      for (Layer& layer : own.layers) layer.positive.resize(config.feed_forward_width), layer.sums.resize(config.feed_forward_width);
    }
  }
  bool wants(int64_t, MatrixInput) const override { return true; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) override {
    Own& own = own_[thread];
    Layer& layer = own.layers[rows.layer];
    const bool down = rows.input == MatrixInput::kMlpDown;
    for (int64_t t = first; t < last; ++t) {
      const float* const row = rows.values + t * rows.stride;
      for (int64_t i = 0; i < rows.width; ++i) layer.inputs[static_cast<int>(rows.input)].add(row[i]);
      if (!down) continue;
      for (int64_t i = 0; i < rows.width; ++i)
        if (row[i] > 0.0f) ++layer.positive[i], layer.sums[i] += static_cast<double>(row[i]);
      const float* gate = row;
      if (rows.gate != nullptr) {
        kernels::unit_row(unit_of(config_.feed_forward), rows.gate + t * rows.stride, nullptr, rows.width, own.gate.data());
        gate = own.gate.data();
      }
      for (int64_t i = 0; i < rows.width; ++i) layer.gates.add(gate[i]);
    }
    if (down) core_.visit(rows, first, last, thread, threads);
  }

  CoreNeurons& core() { return core_; }
  void put_into(NeuronProfile& profile) const {
    for (int64_t i = 0; i < config_.layers; ++i) {
      Layer all;
      all.positive.resize(config_.feed_forward_width), all.sums.resize(config_.feed_forward_width);
      for (const Own& own : own_) {
        const Layer& part = own.layers[i];
        for (int64_t j = 0; j < config_.feed_forward_width; ++j) all.positive[j] += part.positive[j], all.sums[j] += part.sums[j];
        for (int input = 0; input < kMatrixInputs; ++input) all.inputs[input].add(part.inputs[input]);
        all.gates.add(part.gates);
      }
      profile.positive.push_back(all.positive);
      profile.sums.emplace_back(all.sums.begin(), all.sums.end());
      profile.inputs.emplace_back();
      for (int input = 0; input < kMatrixInputs; ++input) profile.inputs.back()[input] = all.inputs[input].quantiles();
      profile.gates.push_back(all.gates.quantiles());
    }
  }

 private:
  struct Layer {
    std::vector<int32_t> positive;
    std::vector<double> sums;
    SizeHistogram inputs[kMatrixInputs], gates;
  };
  struct alignas(64) Own {
    std::vector<Layer> layers;
    std::vector<float> gate;
  };
  TransformerConfig config_;
  CoreNeurons core_;
  std::vector<Own> own_;
};

struct Clustering {
  std::vector<std::vector<float>> centroids;
  std::vector<int32_t> of_rows;
  double inertia = 0;
};

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = a[i] - b[i];
    sum += difference * difference;
  }
  return sum;
}

/// Lloyd's algorithm from a beginning by k-means++ (Arthur & Vassilvitskii 2007).
Clustering k_means(const std::vector<std::vector<float>>& rows, int64_t clusters, RandomStream& stream) {
  Clustering found;
  found.centroids.push_back(rows[stream.below(rows.size())]);
  std::vector<double> nearest(rows.size(), INFINITY);
  while (static_cast<int64_t>(found.centroids.size()) < clusters) {
    double all = 0;
    for (size_t i = 0; i < rows.size(); ++i) all += nearest[i] = std::min(nearest[i], squared_distance(rows[i], found.centroids.back()));
    double at = stream.uniform() * all;
    size_t drawn = 0;
    while (drawn + 1 < rows.size() && (at -= nearest[drawn]) >= 0) ++drawn;
    found.centroids.push_back(rows[drawn]);
  }
  found.of_rows.assign(rows.size(), -1);
  constexpr int kMostRounds = 100;
  for (int round = 0; round < kMostRounds; ++round) {
    bool moved = false;
    found.inertia = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      int32_t best = 0;
      double least = INFINITY;
      for (size_t j = 0; j < found.centroids.size(); ++j)
        if (const double distance = squared_distance(rows[i], found.centroids[j]); distance < least) least = distance, best = static_cast<int32_t>(j);
      moved = moved || found.of_rows[i] != best;
      found.of_rows[i] = best, found.inertia += least;
    }
    if (!moved) break;
    for (size_t j = 0; j < found.centroids.size(); ++j) {
      std::vector<double> sum(rows[0].size());
      int64_t members = 0;
      for (size_t i = 0; i < rows.size(); ++i) {
        if (found.of_rows[i] != static_cast<int32_t>(j)) continue;
        ++members;
        for (size_t k = 0; k < sum.size(); ++k) sum[k] += rows[i][k];
      }
      if (members == 0) continue;  // an empty cluster stays where it was
      for (size_t k = 0; k < sum.size(); ++k) found.centroids[j][k] = static_cast<float>(sum[k] / static_cast<double>(members));
    }
  }
  return found;
}

/// Of 1 to 10 clusters the number behind which the inertia's fall slows down most, at least 4; no more than there are texts.
Clustering by_elbow(const std::vector<std::vector<float>>& rows, uint64_t seed) {
  constexpr int64_t kMost = 10, kLeast = 4;
  const auto texts = static_cast<int64_t>(rows.size());
  std::vector<Clustering> tried;
  for (int64_t clusters = 1; clusters <= std::min(kMost, texts); ++clusters) {
    RandomStream stream(seed, fmt::format("neuron-clusters/{}", clusters));
    tried.push_back(k_means(rows, clusters, stream));
  }
  size_t best = 1;
  double most = -INFINITY;
  for (size_t i = 0; i + 2 < tried.size(); ++i)
    if (const double bend = tried[i].inertia - 2 * tried[i + 1].inertia + tried[i + 2].inertia; bend > most) most = bend, best = i + 2;
  const auto clusters = std::min<int64_t>(std::max<int64_t>(static_cast<int64_t>(best), kLeast), static_cast<int64_t>(tried.size()));
  return tried[clusters - 1];
}

}  // namespace

NeuronProfile make_profile(QuantizedTransformer& engine, std::span<const std::vector<int32_t>> texts, const ProfileOptions& options) {
  const TransformerConfig& config = engine.config();
  const int64_t layers = config.layers, neurons = config.feed_forward_width;
  NeuronProfile profile;
  profile.model = fingerprint(engine), profile.layers = layers, profile.neurons = neurons, profile.token_share = options.token_share;
  profile.core.assign(layers, std::vector<int32_t>(neurons));
  NeuronClusters& clusters = profile.clusters;
  clusters.layer = options.cluster_layer >= 0 ? options.cluster_layer : std::min(layers - 1, layers * 25 / 32);
  if (clusters.layer >= layers) fail_usage("layer {} is to tell texts apart, but the model has layers 0 to {}", clusters.layer, layers - 1);
  clusters.chosen = kept_of(options.cluster_neurons, neurons);
  if (options.clusters < 0) fail_usage("the number of clusters cannot be negative");
  Collector collector(config, options, engine.threads());
  std::vector<std::vector<float>> vectors;
  std::vector<std::vector<uint16_t>> counts_of_texts;  // [texts][layers, neurons]
  Progress progress("profile", static_cast<int64_t>(texts.size()), "texts");
  for (const std::vector<int32_t>& ids : texts) {
    if (ids.empty()) continue;
    collector.core().clear();
    TokenCache cache(config);
    const TokenRun run{ids, &cache};
    engine.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &collector});
    profile.tokens += static_cast<int64_t>(ids.size());
    std::vector<uint16_t>& counts_of_text = counts_of_texts.emplace_back();
    for (int64_t layer = 0; layer < layers; ++layer) {
      const std::vector<int32_t> counts = collector.core().counts(layer);
      for (int64_t i = 0; i < neurons; ++i) {
        profile.core[layer][i] += counts[i];
        counts_of_text.push_back(static_cast<uint16_t>(std::min(counts[i], 65535)));
      }
    }
    vectors.push_back(clusters.vector_of(collector.core()));
    progress.update(static_cast<int64_t>(vectors.size()));
    if (interrupted()) throw Interrupted("stopped while profiling; nothing was written");
  }
  if (vectors.empty()) fail("there is no text to make a profile of");
  collector.put_into(profile);
  Clustering clustering;
  if (options.clusters > 0) {
    RandomStream stream(options.seed, fmt::format("neuron-clusters/{}", options.clusters));
    clustering = k_means(vectors, std::min<int64_t>(options.clusters, static_cast<int64_t>(vectors.size())), stream);
  } else {
    clustering = by_elbow(vectors, options.seed);
  }
  clusters.of_texts = clustering.of_rows, clusters.centroids = clustering.centroids;
  for (size_t cluster = 0; cluster < clustering.centroids.size(); ++cluster) {
    clusters.rankings.emplace_back();
    for (int64_t layer = 0; layer < layers; ++layer) {
      std::vector<int64_t> pooled(neurons);
      for (size_t text = 0; text < counts_of_texts.size(); ++text)
        if (clustering.of_rows[text] == static_cast<int32_t>(cluster))
          for (int64_t i = 0; i < neurons; ++i) pooled[i] += counts_of_texts[text][layer * neurons + i];
      std::vector<int32_t> ranking;
      for (int64_t i = 0; i < neurons; ++i)
        if (pooled[i] > 0) ranking.push_back(static_cast<int32_t>(i));
      std::sort(ranking.begin(), ranking.end(), [&](int32_t a, int32_t b) { return pooled[a] != pooled[b] ? pooled[a] > pooled[b] : a < b; });
      clusters.rankings.back().push_back(std::move(ranking));
    }
  }
  return profile;
}

}  // namespace sememe
