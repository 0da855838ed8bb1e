#include "sememe/inference/threshold_search.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/inference/neuron_profile.h"
#include "sememe/inference/token_policies.h"

namespace sememe {
namespace {

/// Weights that each input of a block is multiplied by.
std::array<double, kMatrixInputs> weights_of(const TransformerConfig& config) {
  const auto width = static_cast<double>(config.width), inner = static_cast<double>(config.feed_forward_width);
  const auto queries = static_cast<double>(config.heads * config.head_width), keys = static_cast<double>(config.key_value_heads * config.head_width);
  const double in = is_gated(config) ? 2 : 1;
  return {width * (queries + 2 * keys), queries * width, in * width * inner, inner * width};
}

/// Runs several choices of one layer's thresholds side by side, each on its own copy of the texts.
class Trial : public InputVisitor, public RowVisitor {
 public:
  Trial(QuantizedTransformer& engine, std::span<const std::vector<int32_t>> texts, int64_t layer) : engine_(engine), texts_(texts), layer_(layer) {
    const std::string name = fmt::format("blocks.{}.output", layer);
    const auto& sites = engine.sites();
    site_ = static_cast<size_t>(std::find_if(sites.begin(), sites.end(), [&](const TransformerSite& site) { return site.name == name; }) - sites.begin());
    for (const std::vector<int32_t>& ids : texts) tokens_ += static_cast<int64_t>(ids.size());
    exact_ = outputs({{}});
  }

  /// Squared error of the block's output for each choice of thresholds.
  std::vector<double> errors(const std::vector<InputShares>& thresholds) {
    const std::vector<float> found = outputs(thresholds);
    std::vector<double> errors(thresholds.size());
    for (size_t i = 0; i < found.size(); ++i) {
      const double difference = static_cast<double>(found[i]) - exact_[i % exact_.size()];
      errors[i / exact_.size()] += difference * difference;
    }
    return errors;
  }

  bool wants(int64_t layer, MatrixInput) const override { return layer == layer_; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int, int) override {
    for (int64_t t = first; t < last; ++t)
      zero_below((*thresholds_)[t / tokens_][static_cast<int>(rows.input)], rows.values + t * rows.stride, rows.width);
  }
  bool wants(size_t site) const override { return site == site_; }
  void visit(size_t, float* rows, int64_t tokens, int64_t width) override { seen_.assign(rows, rows + tokens * width); }
  bool finished() const override { return !seen_.empty(); }

 private:
  std::vector<float> outputs(const std::vector<InputShares>& thresholds) {
    thresholds_ = &thresholds;
    seen_.clear();
    std::vector<TokenCache> caches(thresholds.size() * texts_.size(), TokenCache(engine_.config()));
    std::vector<TokenRun> runs;
    for (size_t i = 0; i < caches.size(); ++i) runs.push_back({texts_[i % texts_.size()], &caches[i]});
    engine_.forward(runs, LogitsOf::kLastTokens, {.sites = this, .inputs = this});
    return std::move(seen_);
  }

  QuantizedTransformer& engine_;
  std::span<const std::vector<int32_t>> texts_;
  int64_t layer_, tokens_ = 0;
  size_t site_ = 0;
  const std::vector<InputShares>* thresholds_ = nullptr;
  std::vector<float> exact_, seen_;
};

}  // namespace

double share_of_block(const TransformerConfig& config, const InputShares& shares) {
  const std::array<double, kMatrixInputs> weights = weights_of(config);
  double zeros = 0, all = 0;
  for (int i = 0; i < kMatrixInputs; ++i) zeros += weights[i] * static_cast<double>(shares[i]), all += weights[i];
  return zeros / all;
}

const InputShares& point_at(const TransformerConfig& config, std::span<const InputShares> path, double share) {
  for (const InputShares& point : path)
    if (share_of_block(config, point) >= share - 1e-6) return point;
  return path.back();
}

std::vector<std::vector<InputShares>> search_thresholds(QuantizedTransformer& engine, const NeuronProfile& profile,
                                                        std::span<const std::vector<int32_t>> texts, const ThresholdSearchOptions& options) {
  if (!(options.step > 0 && options.step <= options.furthest && options.furthest < 1))
    fail_usage("a search of thresholds wants 0 < step <= furthest < 1, not {} and {}", options.step, options.furthest);
  std::vector<std::vector<int32_t>> some;
  for (int64_t left = options.tokens; left > 0 && some.size() < texts.size();) {
    std::vector<int32_t> ids = texts[some.size()];
    ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(left)));
    if (ids.empty()) break;
    left -= static_cast<int64_t>(ids.size());
    some.push_back(std::move(ids));
  }
  if (some.empty()) fail("there is no text to search thresholds on");
  const TransformerConfig& config = engine.config();
  const std::array<double, kMatrixInputs> weights = weights_of(config);
  double all = 0;
  for (const double weight : weights) all += weight;
  std::vector<std::vector<InputShares>> paths(config.layers);
  Progress progress("search thresholds", config.layers, "layers");
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    Trial trial(engine, some, layer);
    std::vector<InputShares>& path = paths[layer];
    path.push_back({});
    while (share_of_block(config, path.back()) < options.furthest) {
      if (interrupted()) throw Interrupted("stopped while searching thresholds; nothing was written");
      std::vector<InputShares> candidates, thresholds;
      for (int raised = 0; raised < kMatrixInputs; ++raised) {
        InputShares shares = path.back();
        shares[raised] += static_cast<float>(options.step * all / weights[raised]);
        if (shares[raised] > 1.0f) continue;
        candidates.push_back(shares);
        InputShares& values = thresholds.emplace_back();
        for (int i = 0; i < kMatrixInputs; ++i) values[i] = shares[i] > 0 ? NeuronProfile::quantile(profile.inputs[layer][i], shares[i]) : 0.0f;
      }
      if (candidates.empty()) break;
      const std::vector<double> errors = trial.errors(thresholds);
      path.push_back(candidates[std::min_element(errors.begin(), errors.end()) - errors.begin()]);
    }
    progress.update(layer + 1);
  }
  return paths;
}

}  // namespace sememe
