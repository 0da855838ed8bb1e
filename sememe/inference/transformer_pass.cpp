#include "sememe/inference/transformer_pass.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "sememe/base/error.h"
#include "sememe/inference/unit_of.h"
#include "sememe/kernels/cached_attention.h"
#include "sememe/kernels/layer_rows.h"

namespace sememe {
namespace {

using kernels::kPanelRows;
using kernels::QuantizedRows;

constexpr size_t kSitesOfBlock = 5;
enum BlockSite : size_t { kAttention, kMlpInput, kMlpAct, kMlp, kOutput };

int64_t padded(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows * kPanelRows; }

}  // namespace

/// The buffers of a pass, and the steps that the threads go through together. Between two meetings each thread writes only what is its own.
class TransformerPass::Steps {
 public:
  Steps(TransformerWeights& weights, ThreadTeam& team) : weights_(weights), config_(weights.config()), team_(team), threads_(team.size()), own_(threads_) {}

  std::span<const float> run(std::span<const TokenRun> runs, LogitsOf wanted, const PassWatchers& watchers) {
    watchers_ = watchers, visitor_ = watchers.sites, stopped_ = false, error_ = nullptr;
    begin(runs, wanted);
    team_.run([this](int thread) { run_thread(thread); });
    if (error_) std::rethrow_exception(error_);
    for (const TokenRun& run : runs) run.cache->set_tokens(run.cache->tokens() + static_cast<int64_t>(run.ids.size()));
    if (stopped_) return {};
    const std::span<const float> logits(logits_.data(), head_rows_.size() * config_.vocabulary);
    for (const float logit : logits)
      if (!std::isfinite(logit)) fail("{}: a logit is not finite", weights_.source().path().string());
    return logits;
  }

 private:
  struct Row {
    TokenCache* cache;
    int64_t position;
  };
  /// Rows that are about to be multiplied, made by each thread for itself where there are few.
  struct Prepared {
    std::vector<float> values;  ///< of the stream's norm
    QuantizedRows normed, mixed;
  };

  void begin(std::span<const TokenRun> runs, LogitsOf wanted) {
    ids_.clear(), rows_.clear(), head_rows_.clear();
    for (const TokenRun& run : runs) {
      const int64_t before = run.cache->tokens(), count = static_cast<int64_t>(run.ids.size());
      if (count == 0) fail("a run of tokens is empty");
      if (before + count > config_.context) fail("{} tokens do not fit the context of {}", before + count, config_.context);
      run.cache->reserve(before + count);
      for (int64_t i = 0; i < count; ++i) {
        if (run.ids[i] < 0 || run.ids[i] >= config_.vocabulary) fail("token {} does not exist: the model has ids 0 to {}", run.ids[i], config_.vocabulary - 1);
        if (wanted == LogitsOf::kAllTokens || i == count - 1) head_rows_.push_back(static_cast<int64_t>(rows_.size()));
        ids_.push_back(run.ids[i]);
        rows_.push_back({run.cache, before + i});
      }
      weights_.extend_rotations(before + count);
      longest_ = std::max(longest_, before + count);
    }
    tokens_ = static_cast<int64_t>(rows_.size());
    queries_width_ = padded(config_.heads * config_.head_width), keys_width_ = padded(config_.key_value_heads * config_.head_width);
    head_width_ = rows_[0].cache->head_width();
    const auto grow = [](auto& values, int64_t size) {
      if (static_cast<int64_t>(values.size()) < size) values.resize(size);
    };
    const int64_t width = padded(config_.width), inner = padded(config_.feed_forward_width);
    grow(stream_, tokens_ * config_.width), grow(written_, tokens_ * width);
    grow(queries_, tokens_ * queries_width_), grow(keys_, tokens_ * keys_width_), grow(values_, tokens_ * keys_width_);
    grow(mixed_, tokens_ * config_.heads * config_.head_width);
    grow(gate_, tokens_ * inner), grow(up_, tokens_ * inner);
    hidden_.resize(tokens_, config_.feed_forward_width);
    if (watchers_.subset != nullptr && few()) {
      grow(taken_, tokens_);
      for (kernels::ChosenActivations& taken : taken_) taken.resize(config_.feed_forward_width);
    }
    grow(logits_, static_cast<int64_t>(head_rows_.size()) * config_.vocabulary);
    const auto prepare_room = [&](Prepared& prepared) {
      grow(prepared.values, tokens_ * config_.width);
      prepared.normed.resize(tokens_, config_.width);
      prepared.mixed.resize(tokens_, config_.heads * config_.head_width);
    };
    prepare_room(shared_);
    const int64_t group = config_.heads / config_.key_value_heads;
    for (Own& own : own_) {
      grow(own.scores, group * ((longest_ + kernels::kKeyTile - 1) / kernels::kKeyTile * kernels::kKeyTile));
      grow(own.heads, 2 * group * head_width_);
      grow(own.ends, static_cast<int64_t>(head_rows_.size()) * kPanelRows);
      if (few()) prepare_room(own.prepared);
    }
  }

  bool few() const { return tokens_ < 2 * threads_; }
  void meet() { team_.meet(); }
  Share tokens_of(int thread) const { return Share(tokens_, thread, threads_); }
  float* stream(int64_t token) { return stream_.data() + token * config_.width; }
  bool wanted(size_t site) const { return visitor_ != nullptr && visitor_->wants(site); }

  /// Lets the visitor see [tokens, width] rows that all threads have written. @return false if the pass is to end
  bool show(int thread, size_t site, float* rows, int64_t width, int64_t tokens) {
    if (visitor_ == nullptr) return true;
    const bool visits = visitor_->wants(site);
    if (!visits && !visitor_->finished()) return true;
    meet();
    if (thread == 0) {
      try {
        if (visits) visitor_->visit(site, rows, tokens, width);
        stopped_ = visitor_->finished();
      } catch (...) {
        error_ = std::current_exception();
        stopped_ = true;
      }
    }
    meet();
    return !stopped_;
  }

  /// Quantises rows of floats for the products that follow.
  Activations prepare(int thread, const float* rows, QuantizedRows Prepared::* into) {
    QuantizedRows& quantized = few() ? own_[thread].prepared.*into : shared_.*into;
    const Share share = few() ? Share(tokens_, 0, 1) : tokens_of(thread);
    for (int64_t t = share.begin; t < share.end; ++t)
      kernels::quantize_blocks(rows + t * quantized.width, t, 0, quantized.width / QuantizedRows::kBlock, quantized);
    if (!few()) meet();
    return {rows, &quantized};
  }

  void normalize(const float* row, const NormWeights& norm, float* to) const {
    const auto epsilon = static_cast<float>(config_.norm_epsilon);
    if (config_.norm == Norm::kLayer)
      kernels::layer_norm_row(row, norm.weight.data(), norm.bias.data(), config_.width, epsilon, to);
    else
      kernels::rms_norm_row(row, norm.weight.data(), config_.width, epsilon, to);
  }

  /// Lets the watcher of inputs see rows that all threads have written; they are this thread's share or, after a meeting, anyone's.
  void show_input_rows(int thread, const InputRows& rows) {
    const Share share = tokens_of(thread);
    if (watchers_.subset != nullptr && watchers_.subset->wants(rows.layer, rows.input)) watchers_.subset->visit(rows, share.begin, share.end, thread, threads_);
    if (watched(rows.layer, rows.input)) watchers_.inputs->visit(rows, share.begin, share.end, thread, threads_);
  }
  bool watched(int64_t layer, MatrixInput input) const { return watchers_.inputs != nullptr && watchers_.inputs->wants(layer, input); }

  /// The norm of the stream, and that quantised.
  Activations prepare_norm(int thread, const NormWeights& norm, int64_t layer, MatrixInput input) {
    const bool seen = watched(layer, input);  // then no thread makes rows for itself
    float* const values = few() && !seen ? own_[thread].prepared.values.data() : shared_.values.data();
    const Share share = few() && !seen ? Share(tokens_, 0, 1) : tokens_of(thread);
    for (int64_t t = share.begin; t < share.end; ++t) normalize(stream(t), norm, values + t * config_.width);
    if (!seen) return prepare(thread, values, &Prepared::normed);
    show_input_rows(thread, {layer, input, values, tokens_, config_.width, config_.width});
    meet();
    return prepare(thread, values, &Prepared::normed);
  }

  /// In pairs, so that a thread's rows are whole blocks of what may be quantised next.
  Share panels_of(int thread, int64_t panels) const {
    Share share((panels + 1) / 2, thread, threads_);
    share.begin *= 2, share.end = std::min(2 * share.end, panels);
    return share;
  }
  static Share rows_of(Share panels, int64_t rows) {
    panels.begin = std::min(panels.begin * kPanelRows, rows), panels.end = std::max(panels.begin, std::min(panels.end * kPanelRows, rows));
    return panels;
  }

  /// This thread's rows of the product, and the bias.
  Share multiply(int thread, const PanelMatrix& matrix, const std::vector<float>& bias, const Activations& x, float* out, int64_t stride) {
    const Share panels = panels_of(thread, matrix.panels());
    if (panels.begin < panels.end) matrix.multiply(x, panels.begin, panels.end, tokens_, out + panels.begin * kPanelRows, stride);
    const Share rows = rows_of(panels, matrix.rows());
    if (!bias.empty())
      for (int64_t t = 0; t < tokens_; ++t) kernels::add_row(bias.data() + rows.begin, rows.end - rows.begin, out + t * stride + rows.begin);
    return rows;
  }

  /// Multiplies, lets `site` be seen, and adds to the stream. @return false if the pass is to end
  bool write(int thread, const PanelMatrix& matrix, const std::vector<float>& bias, const NormWeights& post_norm, const Activations& x,
             size_t site) {
    return add_written(thread, multiply(thread, matrix, bias, x, written_.data(), padded(config_.width)), post_norm, site);
  }

  /// @param rows which of the written ones are this thread's
  bool add_written(int thread, const Share& rows, const NormWeights& post_norm, size_t site) {
    const int64_t width = config_.width, stride = padded(width);
    if (post_norm.empty() && visitor_ == nullptr) {
      for (int64_t t = 0; t < tokens_; ++t) kernels::add_row(written_.data() + t * stride + rows.begin, rows.end - rows.begin, stream(t) + rows.begin);
      meet();
      return true;
    }
    meet();
    const Share share = tokens_of(thread);
    if (!post_norm.empty()) {
      for (int64_t t = share.begin; t < share.end; ++t) normalize(written_.data() + t * stride, post_norm, written_.data() + t * stride);
    }
    if (!show(thread, site, written_.data(), width, tokens_)) return false;
    for (int64_t t = share.begin; t < share.end; ++t) kernels::add_row(written_.data() + t * stride, width, stream(t));
    meet();
    return true;
  }

  void normalize_and_rotate(float* head, const std::vector<float>& norm, const Rotation& rotation, int64_t position) const {
    if (!norm.empty()) kernels::rms_norm_row(head, norm.data(), config_.head_width, static_cast<float>(config_.norm_epsilon), head);
    const auto half = static_cast<int64_t>(rotation.frequencies.size());
    if (half == 0) return;
    kernels::rotate_row(head, rotation.cosines.data() + position * half, rotation.sines.data() + position * half, half);
  }

  void store_keys(int thread, const BlockWeights& block, int64_t layer) {
    const int64_t heads = config_.key_value_heads, width = config_.head_width;
    const Share share(tokens_ * heads, thread, threads_);
    std::vector<float>& room = own_[thread].heads;
    for (int64_t i = share.begin; i < share.end; ++i) {
      const Row& row = rows_[i / heads];
      float* const key = room.data();
      float* const value = key + head_width_;
      std::fill(key, value + head_width_, 0.0f);
      std::copy_n(keys_.data() + i / heads * keys_width_ + i % heads * width, width, key);
      std::copy_n(values_.data() + i / heads * keys_width_ + i % heads * width, width, value);
      normalize_and_rotate(key, block.key_norm, weights_.rotations[block.local], row.position);
      kernels::store_key_value(key, value, row.position, head_width_, row.cache->keys(layer, i % heads), row.cache->values(layer, i % heads));
    }
  }

  void attend(int thread, const BlockWeights& block, int64_t layer) {
    const int64_t group = config_.heads / config_.key_value_heads, width = config_.head_width;
    // Heads that share keys are best taken together; one by one where that would leave threads without work.
    const int64_t together = tokens_ * config_.key_value_heads >= 2 * threads_ ? std::min<int64_t>(group, 4) : 1;
    const int64_t parts = (group + together - 1) / together, items = tokens_ * config_.key_value_heads * parts;
    float* const queries = own_[thread].heads.data();
    float* const out = queries + group * head_width_;
    const auto scale = static_cast<float>(attention_scale(config_));
    for (int64_t item = thread; item < items; item += threads_) {
      const int64_t token = item / (config_.key_value_heads * parts), key_head = item / parts % config_.key_value_heads;
      const int64_t first = key_head * group + item % parts * together, count = std::min(together, (key_head + 1) * group - first);
      const Row& row = rows_[token];
      for (int64_t i = 0; i < count; ++i) {
        float* const query = queries + i * head_width_;
        std::fill(query, query + head_width_, 0.0f);
        std::copy_n(queries_.data() + token * queries_width_ + (first + i) * width, width, query);
        normalize_and_rotate(query, block.query_norm, weights_.rotations[block.local], row.position);
        for (int64_t j = 0; j < width; ++j) query[j] *= scale;
      }
      const int64_t seen = block.local ? std::max<int64_t>(0, row.position + 1 - config_.window) : 0;
      kernels::attend(queries, count, row.cache->keys(layer, key_head), row.cache->values(layer, key_head), head_width_,
                      {seen, row.position + 1, static_cast<float>(config_.attention_softcap)}, own_[thread].scores.data(), out);
      for (int64_t i = 0; i < count; ++i)
        std::copy_n(out + i * head_width_, width, mixed_.data() + token * config_.heads * width + (first + i) * width);
    }
  }

  /// The hidden activations of the MLP, quantised. @return false if the pass is to end
  bool activate(int thread, const BlockWeights& block, int64_t layer, const Activations& x, size_t site) {
    const int64_t width = config_.feed_forward_width, stride = padded(width);
    float* const act = up_.data();
    if (block.gate) multiply(thread, *block.gate, block.gate_bias, x, gate_.data(), stride);
    const Share rows = multiply(thread, *block.up, block.up_bias, x, up_.data(), stride);
    for (int64_t t = 0; t < tokens_; ++t) {
      float* const up = act + t * stride + rows.begin;
      const float* const from = block.gate ? gate_.data() + t * stride + rows.begin : up;
      kernels::unit_row(unit_of(config_.feed_forward), from, block.gate ? up : nullptr, rows.end - rows.begin, up);
    }
    const bool chosen = watchers_.subset != nullptr && watchers_.subset->wants(layer, MatrixInput::kMlpDown);
    if (chosen || watched(layer, MatrixInput::kMlpDown)) {
      meet();
      show_input_rows(thread, {layer, MatrixInput::kMlpDown, act, tokens_, width, stride, block.gate ? gate_.data() : nullptr, x.values, config_.width});
      meet();
    }
    if (!show(thread, site, act, width, tokens_)) return false;
    for (int64_t t = 0; t < tokens_; ++t)
      kernels::quantize_blocks(act + t * stride, t, rows.begin / QuantizedRows::kBlock, rows.end / QuantizedRows::kBlock, hidden_);
    meet();
    return true;
  }

  /// The kept neurons of the layer, where they alone are to be multiplied by.
  const NeuronSubset::Layer* kept_alone(int64_t layer, size_t site) const {
    if (watchers_.subset == nullptr || !few() || wanted(site) || watched(layer, MatrixInput::kMlpDown)) return nullptr;
    return watchers_.subset->layer(layer);
  }

  /// What the kept neurons write. @return which rows of it are this thread's
  Share run_kept(int thread, const BlockWeights& block, const NeuronSubset::Layer& kept, const Activations& x) {
    const int64_t width = config_.feed_forward_width, stride = padded(width);
    if (kept.gate) multiply(thread, *kept.gate, kept.gate_bias, x, gate_.data(), stride);
    const Share rows = multiply(thread, *kept.up, kept.up_bias, x, up_.data(), stride);
    for (int64_t t = 0; t < tokens_; ++t) {
      float* const up = up_.data() + t * stride + rows.begin;
      const float* const from = kept.gate ? gate_.data() + t * stride + rows.begin : up;
      kernels::unit_row(unit_of(config_.feed_forward), from, kept.gate ? up : nullptr, rows.end - rows.begin, up);
    }
    meet();
    const Share panels = panels_of(thread, kept.down->panels()), out = rows_of(panels, kept.down->rows());
    if (kept.down->quantized()) {
      taken_of_thread(thread, kept);
      meet();
    }
    for (int64_t t = 0; t < tokens_; ++t) {
      float* const to = written_.data() + t * padded(config_.width);
      if (panels.begin < panels.end) kept.down->multiply(up_.data() + t * stride, taken_[t], panels.begin, panels.end, to + panels.begin * kPanelRows);
      if (!block.down_bias.empty()) kernels::add_row(block.down_bias.data() + out.begin, out.end - out.begin, to + out.begin);
    }
    return out;
  }

  /// Quantises this thread's share of the kept activations in the blocks of the whole row, with zeros at the other neurons, and takes them from there.
  void taken_of_thread(int thread, const NeuronSubset::Layer& kept) {
    const kernels::ChosenColumns& columns = kept.down->columns();
    const int64_t width = config_.feed_forward_width, stride = padded(width);
    const Share blocks(width / QuantizedRows::kBlock, thread, threads_);
    const int64_t begin = blocks.begin * QuantizedRows::kBlock, end = blocks.end * QuantizedRows::kBlock;
    const auto first = std::lower_bound(kept.neurons.begin(), kept.neurons.end(), begin), last = std::lower_bound(first, kept.neurons.end(), end);
    const auto unit_at = [&](int64_t column) {
      return std::lower_bound(columns.units.begin(), columns.units.end(), column,
                              [&](const kernels::ChosenColumns::Unit& unit, int64_t wanted) { return unit.group * columns.layout.group < wanted; }) -
             columns.units.begin();
    };
    for (int64_t t = 0; t < tokens_; ++t) {
      float* const whole = gate_.data() + t * stride;  // gate's values have been used, unless there is none: then it is free
      std::fill(whole + begin, whole + end, 0.0f);
      for (auto neuron = first; neuron != last; ++neuron) whole[*neuron] = up_[t * stride + (neuron - kept.neurons.begin())];
      kernels::quantize_blocks(whole, t, blocks.begin, blocks.end, hidden_);
      kernels::take_columns(columns, hidden_, t, unit_at(begin), unit_at(end), taken_[t]);
    }
  }

  bool run_block(int thread, int64_t layer) {
    const BlockWeights& block = weights_.blocks[layer];
    const size_t site = 1 + kSitesOfBlock * static_cast<size_t>(layer);
    const Activations normed = prepare_norm(thread, block.attention_norm, layer, MatrixInput::kAttention);
    multiply(thread, *block.query, block.query_bias, normed, queries_.data(), queries_width_);
    multiply(thread, *block.key, block.key_bias, normed, keys_.data(), keys_width_);
    multiply(thread, *block.value, block.value_bias, normed, values_.data(), keys_width_);
    meet();
    store_keys(thread, block, layer);
    meet();
    attend(thread, block, layer);
    meet();
    if (watched(layer, MatrixInput::kAttentionOutput)) {
      const int64_t width = config_.heads * config_.head_width;
      show_input_rows(thread, {layer, MatrixInput::kAttentionOutput, mixed_.data(), tokens_, width, width});
      meet();
    }
    const Activations mixed = prepare(thread, mixed_.data(), &Prepared::mixed);
    const NormWeights& mlp_norm = config_.residual == Residual::kParallelOneNorm ? block.attention_norm : block.mlp_norm;
    // Beside the attention, the MLP reads the stream that it does not write to yet.
    const bool beside = config_.residual != Residual::kSequential;
    Activations input{};
    if (beside) {
      input = prepare_norm(thread, mlp_norm, layer, MatrixInput::kMlp);
      meet();
    }
    if (!write(thread, *block.output, block.output_bias, block.attention_post_norm, mixed, site + kAttention)) return false;
    if (!beside) input = prepare_norm(thread, mlp_norm, layer, MatrixInput::kMlp);
    if (visitor_ != nullptr && !show_input(thread, layer, site + kMlpInput, input)) return false;
    if (const NeuronSubset::Layer* const kept = kept_alone(layer, site + kMlpAct)) {
      if (!show(thread, site + kMlpAct, nullptr, 0, 0)) return false;
      if (!add_written(thread, run_kept(thread, block, *kept, input), block.mlp_post_norm, site + kMlp)) return false;
    } else {
      if (!activate(thread, block, layer, input, site + kMlpAct)) return false;
      const Activations hidden{up_.data(), &hidden_};
      if (!write(thread, *block.down, block.down_bias, block.mlp_post_norm, hidden, site + kMlp)) return false;
    }
    return show(thread, site + kOutput, stream_.data(), config_.width, tokens_);
  }

  /// The MLP's input, which threads with few rows have made each for itself: after a visit all take the first thread's.
  bool show_input(int thread, int64_t layer, size_t site, Activations& input) {
    if (!wanted(site)) return show(thread, site, nullptr, 0, 0);
    float* const rows = few() && !watched(layer, MatrixInput::kMlp) ? own_[0].prepared.values.data() : shared_.values.data();
    if (!show(thread, site, rows, config_.width, tokens_)) return false;
    input = prepare(thread, rows, &Prepared::normed);
    return true;
  }

  void run_thread(int thread) {
    const int64_t width = config_.width;
    const Share share = tokens_of(thread);
    for (int64_t t = share.begin; t < share.end; ++t) weights_.embed(ids_[t], rows_[t].position, stream(t));
    if (!show(thread, 0, stream_.data(), width, tokens_)) return;
    meet();
    for (int64_t layer = 0; layer < config_.layers; ++layer)
      if (!run_block(thread, layer)) return;
    run_head(thread);
  }

  void run_head(int thread) {
    const size_t site = 1 + kSitesOfBlock * static_cast<size_t>(config_.layers);
    const int64_t width = config_.width, vocabulary = config_.vocabulary, rows = static_cast<int64_t>(head_rows_.size());
    const bool seen = wanted(site);  // then of all tokens, else of those whose logits are wanted
    if (seen) {
      const Share share = tokens_of(thread);
      for (int64_t t = share.begin; t < share.end; ++t) normalize(stream(t), weights_.norm, stream(t));
    }
    if (!show(thread, site, stream_.data(), width, tokens_)) return;
    const Share share(rows, thread, threads_);
    for (int64_t i = share.begin; i < share.end; ++i) {
      float* const to = shared_.values.data() + i * width;
      if (seen)
        std::copy_n(stream(head_rows_[i]), width, to);
      else
        normalize(stream(head_rows_[i]), weights_.norm, to);
      kernels::quantize_blocks(to, i, 0, width / QuantizedRows::kBlock, shared_.normed);
    }
    meet();
    const PanelMatrix& head = *weights_.head;
    const Activations x{shared_.values.data(), &shared_.normed};
    const Share panels(head.panels(), thread, threads_);
    // Logits lie without gaps, so a panel that is not whole has no room for its padding there.
    const int64_t whole = std::max(panels.begin, std::min(panels.end, vocabulary / kPanelRows));
    if (panels.begin < whole) head.multiply(x, panels.begin, whole, rows, logits_.data() + panels.begin * kPanelRows, vocabulary);
    if (whole < panels.end) {
      std::vector<float>& ends = own_[thread].ends;
      head.multiply(x, whole, panels.end, rows, ends.data(), kPanelRows);
      for (int64_t i = 0; i < rows; ++i)
        std::copy_n(ends.data() + i * kPanelRows, vocabulary % kPanelRows, logits_.data() + i * vocabulary + whole * kPanelRows);
    }
    if (!weights_.head_bias.empty())
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = panels.begin * kPanelRows; j < std::min(panels.end * kPanelRows, vocabulary); ++j) logits_[i * vocabulary + j] += weights_.head_bias[j];
    if (const auto cap = static_cast<float>(config_.final_softcap); cap > 0)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = panels.begin * kPanelRows; j < std::min(panels.end * kPanelRows, vocabulary); ++j)
          logits_[i * vocabulary + j] = cap * std::tanh(logits_[i * vocabulary + j] / cap);
  }

  TransformerWeights& weights_;
  const TransformerConfig& config_;
  ThreadTeam& team_;
  const int threads_;
  PassWatchers watchers_;
  RowVisitor* visitor_ = nullptr;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::vector<int32_t> ids_;
  std::vector<Row> rows_;
  std::vector<int64_t> head_rows_;  ///< tokens whose logits are wanted
  int64_t tokens_ = 0, longest_ = 0, queries_width_ = 0, keys_width_ = 0, head_width_ = 0;
  std::vector<float> stream_, written_, queries_, keys_, values_, mixed_, gate_, up_, logits_;
  QuantizedRows hidden_;
  std::vector<kernels::ChosenActivations> taken_;  ///< [tokens], of the kept neurons
  Prepared shared_;
  struct alignas(64) Own {
    Prepared prepared;
    std::vector<float> scores, heads, ends;
  };
  std::vector<Own> own_;
};

TransformerPass::TransformerPass(TransformerWeights& weights, ThreadTeam& team) : steps_(std::make_unique<Steps>(weights, team)) {}
TransformerPass::~TransformerPass() = default;

std::span<const float> TransformerPass::run(std::span<const TokenRun> runs, LogitsOf wanted, const PassWatchers& watchers) {
  return steps_->run(runs, wanted, watchers);
}

std::vector<TransformerSite> TransformerPass::sites(const TransformerConfig& config) {
  std::vector<TransformerSite> sites = {{"embedding", config.width}};
  for (int64_t i = 0; i < config.layers; ++i)
    for (const auto& [name, width] : {std::pair{"attention", config.width}, {"mlp.input", config.width}, {"mlp.act", config.feed_forward_width},
                                      {"mlp", config.width}, {"output", config.width}})
      sites.push_back({fmt::format("blocks.{}.{}", i, name), width});
  sites.push_back({"norm", config.width});
  return sites;
}

}  // namespace sememe
