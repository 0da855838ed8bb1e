#include "sememe/inference/decoding_quality.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"

namespace sememe {
namespace {

/// Counts what is not zero at "mlp.act" of some layers.
class Firing : public RowVisitor {
 public:
  Firing(const QuantizedTransformer& engine, LayerRange layers) : wanted_(engine.sites().size()) {
    for (int64_t layer = layers.first; layer <= layers.last; ++layer)
      for (size_t site = 0; site < wanted_.size(); ++site)
        if (engine.sites()[site].name == fmt::format("blocks.{}.mlp.act", layer)) wanted_[site] = true;
  }
  bool wants(size_t site) const override { return wanted_[site]; }
  void visit(size_t, float* rows, int64_t tokens, int64_t width) override {
    all_ += tokens * width;
    for (int64_t i = 0; i < tokens * width; ++i) firing_ += rows[i] != 0.0f;
  }
  double share() const { return static_cast<double>(firing_) / static_cast<double>(all_); }

 private:
  std::vector<bool> wanted_;
  int64_t all_ = 0, firing_ = 0;
};

/// log softmax of a row, in place.
void to_log_probabilities(std::span<float> row) {
  const float most = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (const float logit : row) sum += std::exp(logit - most);
  const auto log_sum = static_cast<float>(std::log(sum)) + most;
  for (float& logit : row) logit -= log_sum;
}

}  // namespace

double DecodingQuality::mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double DecodingQuality::dense_perplexity() const { return std::exp(mean(dense_nats)); }
double DecodingQuality::perplexity() const { return std::exp(mean(nats)); }

double DecodingQuality::nats_interval() const {
  const auto n = static_cast<double>(nats.size());
  if (n < 2) return INFINITY;
  const double centre = mean(nats) - mean(dense_nats);
  double squares = 0;
  for (size_t i = 0; i < nats.size(); ++i) squares += std::pow(nats[i] - dense_nats[i] - centre, 2);
  return 1.96 * std::sqrt(squares / (n - 1) / n);
}

std::vector<DecodingQuality> measure_decoding(QuantizedTransformer& engine, std::span<SparseDecoder* const> decoders,
                                              std::span<const std::vector<int32_t>> texts, int64_t prefix) {
  const int64_t vocabulary = engine.config().vocabulary;
  std::vector<DecodingQuality> qualities(decoders.size());
  std::vector<Firing> firing;
  for (const SparseDecoder* decoder : decoders) firing.emplace_back(engine, decoder->layers());
  Progress progress("measure", static_cast<int64_t>(texts.size()), "texts");
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::span<const int32_t> ids = texts[i];
    if (prefix < 1 || static_cast<int64_t>(ids.size()) < prefix + 2) fail("a text of {} tokens is too short for a prompt of {} and two more", ids.size(), prefix);
    // Each token but the last is an input; each input's next token is scored.
    const std::span<const int32_t> prompt = ids.first(prefix), inputs = ids.subspan(prefix, ids.size() - prefix - 1);
    const auto count = static_cast<int64_t>(inputs.size());
    TokenCache cache(engine.config());
    const TokenRun reading{prompt, &cache}, continuing{inputs, &cache};
    engine.forward({&reading, 1});
    const std::span<const float> logits = engine.forward({&continuing, 1}, LogitsOf::kAllTokens);
    std::vector<float> dense(logits.begin(), logits.end());
    double dense_nats = 0;
    for (int64_t t = 0; t < count; ++t) {
      to_log_probabilities({dense.data() + t * vocabulary, static_cast<size_t>(vocabulary)});
      dense_nats -= dense[t * vocabulary + ids[prefix + t + 1]];
    }
    for (size_t d = 0; d < decoders.size(); ++d) {
      cache.set_tokens(0);
      decoders[d]->read({&reading, 1});
      const std::span<const float> sparse_logits = decoders[d]->decode({&continuing, 1}, LogitsOf::kAllTokens, &firing[d]);
      std::vector<float> sparse(sparse_logits.begin(), sparse_logits.end());
      double nats = 0, kl = 0, agreed = 0;
      for (int64_t t = 0; t < count; ++t) {
        const std::span<float> ours(sparse.data() + t * vocabulary, vocabulary);
        const std::span<const float> theirs(dense.data() + t * vocabulary, vocabulary);
        to_log_probabilities(ours);
        nats -= ours[ids[prefix + t + 1]];
        for (int64_t j = 0; j < vocabulary; ++j) kl += std::exp(theirs[j]) * (theirs[j] - ours[j]);
        agreed += std::max_element(ours.begin(), ours.end()) - ours.begin() == std::max_element(theirs.begin(), theirs.end()) - theirs.begin();
      }
      const auto n = static_cast<double>(count);
      DecodingQuality& quality = qualities[d];
      quality.tokens += count;
      quality.dense_nats.push_back(dense_nats / n), quality.nats.push_back(nats / n), quality.kl.push_back(kl / n);
      quality.agreement.push_back(agreed / n);
    }
    progress.update(static_cast<int64_t>(i) + 1);
    if (interrupted()) throw Interrupted("stopped while measuring; nothing was written");
  }
  for (size_t d = 0; d < decoders.size(); ++d) qualities[d].kept = firing[d].share();
  return qualities;
}

}  // namespace sememe
