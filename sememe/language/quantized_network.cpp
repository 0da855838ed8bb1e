#include "sememe/language/quantized_network.h"

#include <ATen/Parallel.h>

#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"

namespace sememe {
namespace {

/// The engine's threads spin, and so do LibTorch's for a while after each of their loops: while the engine runs, LibTorch has one.
class OneTensorThread {
 public:
  OneTensorThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneTensorThread() { at::set_num_threads(before_); }
  OneTensorThread(const OneTensorThread&) = delete;
  OneTensorThread& operator=(const OneTensorThread&) = delete;

 private:
  int before_;
};

}  // namespace

/// Shows the engine's rows to a SiteVisitor as tensors [batch, tokens, width].
class QuantizedNetwork::Visits : public RowVisitor {
 public:
  Visits(const QuantizedNetwork& network, SiteVisitor& visitor, int64_t batch) : network_(network), visitor_(visitor), batch_(batch) {
    for (const Site& site : network.sites_) wanted_.push_back(network.is_visited(site, visitor));
  }
  bool wants(size_t site) const override { return wanted_[site]; }
  void visit(size_t site, float* rows, int64_t tokens, int64_t width) override {
    // A copy, because a visitor may keep what it is given.
    const torch::Tensor there = torch::from_blob(rows, {batch_, tokens / batch_, width});
    const torch::Tensor seen = there.clone();
    const torch::Tensor result = network_.pass(network_.sites_[site], seen, visitor_);
    if (!result.is_same(seen)) {
      if (result.sizes() != there.sizes())
        fail("site {}: a visitor made [{}] of [{}]", network_.sites_[site].name, fmt::join(result.sizes(), ", "), fmt::join(there.sizes(), ", "));
    }
    const torch::NoGradGuard no_grad;
    torch::Tensor(there).copy_(result);
  }
  bool finished() const override { return visitor_.finished(); }

 private:
  const QuantizedNetwork& network_;
  SiteVisitor& visitor_;
  int64_t batch_;
  std::vector<bool> wanted_;
};

QuantizedNetwork::QuantizedNetwork(const std::filesystem::path& path) : engine_(path, thread_count()) {
  for (const TransformerSite& site : engine_.sites()) sites_.push_back({site.name, site.width});
}

torch::Tensor QuantizedNetwork::run(const torch::Tensor& inputs, SiteVisitor& visitor, std::vector<TokenCache>& sequences, const Forward& forward) {
  if (inputs.dim() != 2 || inputs.scalar_type() != torch::kInt64)
    fail("the transformer takes token ids [batch, tokens] of type int64, not {} of type {}", fmt::join(inputs.sizes(), " x "),
         c10::toString(inputs.scalar_type()));
  const torch::NoGradGuard no_grad;
  const OneTensorThread one_thread;
  const int64_t batch = inputs.size(0), tokens = inputs.size(1);
  const torch::Tensor rows = inputs.contiguous();
  std::vector<int32_t> ids(rows.const_data_ptr<int64_t>(), rows.const_data_ptr<int64_t>() + rows.numel());
  while (static_cast<int64_t>(sequences.size()) < batch) sequences.emplace_back(config());
  std::vector<TokenRun> runs;
  for (int64_t i = 0; i < batch; ++i) runs.push_back({std::span(ids).subspan(i * tokens, tokens), &sequences[i]});
  Visits visits(*this, visitor, batch);
  const std::span<const float> logits = forward(runs, visits);
  if (logits.empty()) return {};
  return torch::from_blob(const_cast<float*>(logits.data()), {batch, static_cast<int64_t>(logits.size()) / batch / config().vocabulary, config().vocabulary})
      .clone();
}

torch::Tensor QuantizedNetwork::forward(const Batch& batch, SiteVisitor& visitor) {
  for (TokenCache& sequence : sequences_) sequence.set_tokens(0);
  return run(batch.inputs, visitor, sequences_,
             [&](std::span<const TokenRun> runs, RowVisitor& visits) { return engine_.forward(runs, LogitsOf::kAllTokens, {.sites = &visits}); });
}

void QuantizedNetwork::decode_sparsely(const SparsityOptions& options, std::shared_ptr<const NeuronProfile> profile) {
  decoder_ = std::make_unique<SparseDecoder>(engine_, options, std::move(profile));
}

torch::Tensor QuantizedNetwork::forward(const Batch& batch, SiteVisitor& visitor, KeyValueCache& cache) {
  const bool begins = cache.tokens == 0;
  if (decoder_ != nullptr) {
    if (begins) cache.text = ++texts_;
    if (cache.text != texts_) fail("another text was begun since; sparse decoding goes on with the last one only");
  }
  const torch::Tensor logits = run(batch.inputs, visitor, cache.sequences, [&](std::span<const TokenRun> runs, RowVisitor& visits) {
    if (decoder_ == nullptr) return engine_.forward(runs, LogitsOf::kLastTokens, {.sites = &visits});
    return begins ? decoder_->read(runs, LogitsOf::kLastTokens, &visits) : decoder_->decode(runs, LogitsOf::kLastTokens, &visits);
  });
  cache.tokens += batch.inputs.size(1);
  return logits;
}

torch::Tensor QuantizedNetwork::head() const { return torch::tensor(engine_.weights().head_weights()).view({config().vocabulary, config().width}); }

torch::Tensor QuantizedNetwork::final_norm(const torch::Tensor& rows) const {
  const NormWeights& norm = engine_.weights().norm;
  const torch::Tensor weight = torch::tensor(norm.weight);
  if (config().norm == Norm::kLayer) return torch::layer_norm(rows, {config().width}, weight, torch::tensor(norm.bias), config().norm_epsilon);
  return rows * (rows.square().mean(-1, true) + config().norm_epsilon).rsqrt() * weight;
}

}  // namespace sememe
