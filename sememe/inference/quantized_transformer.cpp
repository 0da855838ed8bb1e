#include "sememe/inference/quantized_transformer.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/kernels/cached_attention.h"
#include "sememe/kernels/layer_rows.h"

namespace sememe {
namespace {

using kernels::kPanelRows;
using kernels::QuantizedRows;

constexpr size_t kSitesOfBlock = 5;
enum BlockSite : size_t { kAttention, kMlpInput, kMlpAct, kMlp, kOutput };

int64_t padded(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows * kPanelRows; }

kernels::Unit unit_of(FeedForward kind) {
  switch (kind) {
    case FeedForward::kGelu:
    case FeedForward::kGatedGelu: return kernels::Unit::kGeluTanh;
    case FeedForward::kGeluErf: return kernels::Unit::kGelu;
    case FeedForward::kRelu: return kernels::Unit::kRelu;
    case FeedForward::kGatedSilu: return kernels::Unit::kSilu;
  }
  return kernels::Unit::kSilu;
}

void refuse_what_is_not_here(const TransformerConfig& config, const std::string& where) {
  const auto refuse = [&](bool found, const char* what) {
    if (found) fail("{}: {} are not supported by the quantised engine", where, what);
  };
  refuse(config.norm != Norm::kRms, "layer norms");
  refuse(config.positions != Positions::kRotary, "learned positions");
  refuse(config.residual != Residual::kSequential, "parallel residuals");
  refuse(config.head_bias, "biases of the head");
  if (config.width % QuantizedRows::kBlock != 0 || config.feed_forward_width % QuantizedRows::kBlock != 0 ||
      config.heads * config.head_width % QuantizedRows::kBlock != 0)
    fail("{}: widths that are no multiples of {} are not supported by the quantised engine", where, QuantizedRows::kBlock);
}

/// Where each parameter is.
class Parameters {
 public:
  Parameters(const GgufFile& file, const ModelDescription& description) : file_(file), shapes_(description.config) {
    for (const TensorPlace& place : description.places)
      for (size_t i = 0; i < place.parameters.size(); ++i) found_[place.parameters[i]] = {&place, i};
  }

  bool has(const std::string& name) const { return found_.contains(name); }
  int64_t bytes(const std::string& name) const { return PanelMemory::rounded(PanelMatrix::bytes(tensor(name))); }

  PanelMatrix matrix(const std::string& name, PanelMemory& memory) const {
    const auto& [place, index] = found_.at(name);
    if (place->parameters.size() != 1 || place->transposed || place->added != 0.0f)
      fail("{}: tensor \"{}\" holds more than the matrix {}, which the quantised engine does not support", file_.path().string(), place->tensor, name);
    if (place->rows == TensorPlace::Rows::kStacked) return PanelMatrix(tensor(name), memory);
    const std::vector<int64_t> rows = shapes_.rows_in_tensor(*place, index);
    return PanelMatrix(tensor(name), memory, [&](int64_t row) { return rows[row]; });
  }

  /// A vector, or nothing where the network has none.
  std::vector<float> vector(const std::string& name) const {
    if (!has(name)) return {};
    const auto& [place, index] = found_.at(name);
    const std::vector<float> whole = dequantize(tensor(name));
    for (const float value : whole)
      if (!std::isfinite(value)) fail("{}: tensor \"{}\" holds a NaN or infinite value", file_.path().string(), place->tensor);
    std::vector<float> values;
    for (const int64_t row : shapes_.rows_in_tensor(*place, index)) values.push_back(whole[row] + place->added);
    return values;
  }

  const GgufTensor& tensor(const std::string& name) const { return file_.tensor(found_.at(name).first->tensor); }

 private:
  const GgufFile& file_;
  ParameterShapes shapes_;
  std::map<std::string, std::pair<const TensorPlace*, size_t>> found_;
};

}  // namespace

struct QuantizedTransformer::Block {
  std::vector<float> attention_norm, attention_post_norm, mlp_norm, mlp_post_norm, query_norm, key_norm;
  std::vector<float> query_bias, key_bias, value_bias, output_bias, gate_bias, up_bias, down_bias;
  std::optional<PanelMatrix> query, key, value, output, gate, up, down;
  bool local = false;
};

/// The buffers of a pass, and the steps that the threads go through together. Between two meetings each thread writes only what is its own.
class QuantizedTransformer::Pass {
 public:
  explicit Pass(QuantizedTransformer& model) : model_(model), config_(model.config_), threads_(model.team_.size()), own_(threads_) {}

  std::span<const float> run(std::span<const TokenRun> runs, LogitsOf wanted, RowVisitor* visitor) {
    visitor_ = visitor, stopped_ = false, error_ = nullptr;
    begin(runs, wanted);
    model_.team_.run([this](int thread) { run_thread(thread); });
    if (error_) std::rethrow_exception(error_);
    for (const TokenRun& run : runs) run.cache->set_tokens(run.cache->tokens() + static_cast<int64_t>(run.ids.size()));
    if (stopped_) return {};
    const std::span<const float> logits(logits_.data(), head_rows_.size() * config_.vocabulary);
    for (const float logit : logits)
      if (!std::isfinite(logit)) fail("{}: a logit is not finite", model_.file_.path().string());
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
      model_.extend_rotation(before + count);
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
  void meet() { model_.team_.meet(); }
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

  void normalize(const float* row, const std::vector<float>& weight, float* to) const {
    kernels::rms_norm_row(row, weight.data(), config_.width, static_cast<float>(config_.norm_epsilon), to);
  }

  /// The norm of the stream, and that quantised.
  Activations prepare_norm(int thread, const std::vector<float>& weight) {
    float* const values = few() ? own_[thread].prepared.values.data() : shared_.values.data();
    const Share share = few() ? Share(tokens_, 0, 1) : tokens_of(thread);
    for (int64_t t = share.begin; t < share.end; ++t) normalize(stream(t), weight, values + t * config_.width);
    return prepare(thread, values, &Prepared::normed);
  }

  /// This thread's rows of the product, and the bias.
  Share multiply(int thread, const PanelMatrix& matrix, const std::vector<float>& bias, const Activations& x, float* out, int64_t stride) {
    // In pairs of panels, so that a thread's rows are whole blocks of what may be quantised next.
    const Share pairs((matrix.panels() + 1) / 2, thread, threads_);
    const int64_t first = 2 * pairs.begin, last = std::min(2 * pairs.end, matrix.panels());
    if (first < last) matrix.multiply(x, first, last, tokens_, out + first * kPanelRows, stride);
    Share rows(0, 0, 1);
    rows.begin = std::min(first * kPanelRows, matrix.rows()), rows.end = std::max(rows.begin, std::min(last * kPanelRows, matrix.rows()));
    if (!bias.empty())
      for (int64_t t = 0; t < tokens_; ++t) kernels::add_row(bias.data() + rows.begin, rows.end - rows.begin, out + t * stride + rows.begin);
    return rows;
  }

  /// Multiplies, lets `site` be seen, and adds to the stream. @return false if the pass is to end
  bool write(int thread, const PanelMatrix& matrix, const std::vector<float>& bias, const std::vector<float>& post_norm, const Activations& x,
             size_t site) {
    const int64_t width = config_.width, stride = padded(width);
    const Share rows = multiply(thread, matrix, bias, x, written_.data(), stride);
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
    kernels::rotate_row(head, rotation.cosines.data() + position * half, rotation.sines.data() + position * half, half);
  }

  void store_keys(int thread, const Block& block, int64_t layer) {
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
      normalize_and_rotate(key, block.key_norm, model_.rotations_[block.local], row.position);
      kernels::store_key_value(key, value, row.position, head_width_, row.cache->keys(layer, i % heads), row.cache->values(layer, i % heads));
    }
  }

  void attend(int thread, const Block& block, int64_t layer) {
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
        normalize_and_rotate(query, block.query_norm, model_.rotations_[block.local], row.position);
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
  bool activate(int thread, const Block& block, const Activations& x, size_t site) {
    const int64_t width = config_.feed_forward_width, stride = padded(width);
    float* const act = up_.data();
    if (block.gate) multiply(thread, *block.gate, block.gate_bias, x, gate_.data(), stride);
    Share rows = multiply(thread, *block.up, block.up_bias, x, up_.data(), stride);
    for (int64_t t = 0; t < tokens_; ++t) {
      float* const up = act + t * stride + rows.begin;
      const float* const from = block.gate ? gate_.data() + t * stride + rows.begin : up;
      kernels::unit_row(unit_of(config_.feed_forward), from, block.gate ? up : nullptr, rows.end - rows.begin, up);
    }
    if (!show(thread, site, act, width, tokens_)) return false;
    for (int64_t t = 0; t < tokens_; ++t)
      kernels::quantize_blocks(act + t * stride, t, rows.begin / QuantizedRows::kBlock, rows.end / QuantizedRows::kBlock, hidden_);
    meet();
    return true;
  }

  bool run_block(int thread, int64_t layer) {
    const Block& block = model_.blocks_[layer];
    const size_t site = 1 + kSitesOfBlock * static_cast<size_t>(layer);
    const Activations normed = prepare_norm(thread, block.attention_norm);
    multiply(thread, *block.query, block.query_bias, normed, queries_.data(), queries_width_);
    multiply(thread, *block.key, block.key_bias, normed, keys_.data(), keys_width_);
    multiply(thread, *block.value, block.value_bias, normed, values_.data(), keys_width_);
    meet();
    store_keys(thread, block, layer);
    meet();
    attend(thread, block, layer);
    meet();
    const Activations mixed = prepare(thread, mixed_.data(), &Prepared::mixed);
    if (!write(thread, *block.output, block.output_bias, block.attention_post_norm, mixed, site + kAttention)) return false;
    Activations input = prepare_norm(thread, block.mlp_norm);
    if (visitor_ != nullptr && !show_input(thread, site + kMlpInput, input)) return false;
    if (!activate(thread, block, input, site + kMlpAct)) return false;
    const Activations hidden{up_.data(), &hidden_};
    if (!write(thread, *block.down, block.down_bias, block.mlp_post_norm, hidden, site + kMlp)) return false;
    return show(thread, site + kOutput, stream_.data(), config_.width, tokens_);
  }

  /// The MLP's input, which few threads have made each for itself: after a visit all take the first thread's.
  bool show_input(int thread, size_t site, Activations& input) {
    if (!wanted(site)) return show(thread, site, nullptr, 0, 0);
    float* const rows = few() ? own_[0].prepared.values.data() : shared_.values.data();
    if (!show(thread, site, rows, config_.width, tokens_)) return false;
    input = prepare(thread, rows, &Prepared::normed);
    return true;
  }

  void run_thread(int thread) {
    const int64_t width = config_.width;
    const Share share = tokens_of(thread);
    const BlockLayout& layout = block_layout(model_.embedding_->type);
    const int64_t row_bytes = width / layout.weights * layout.bytes;
    for (int64_t t = share.begin; t < share.end; ++t) {
      dequantize(model_.embedding_->type, model_.embedding_->data.subspan(ids_[t] * row_bytes, row_bytes), {stream(t), static_cast<size_t>(width)});
      if (config_.embedding_scale != 1.0)
        for (int64_t i = 0; i < width; ++i) stream(t)[i] *= static_cast<float>(config_.embedding_scale);
    }
    if (!show(thread, 0, stream_.data(), width, tokens_)) return;
    meet();
    for (int64_t layer = 0; layer < config_.layers; ++layer)
      if (!run_block(thread, layer)) return;
    run_head(thread);
  }

  void run_head(int thread) {
    const size_t site = model_.sites_.size() - 1;
    const int64_t width = config_.width, vocabulary = config_.vocabulary, rows = static_cast<int64_t>(head_rows_.size());
    const bool seen = wanted(site);  // then of all tokens, else of those whose logits are wanted
    if (seen) {
      const Share share = tokens_of(thread);
      for (int64_t t = share.begin; t < share.end; ++t) normalize(stream(t), model_.norm_, stream(t));
    }
    if (!show(thread, site, stream_.data(), width, tokens_)) return;
    const Share share(rows, thread, threads_);
    for (int64_t i = share.begin; i < share.end; ++i) {
      float* const to = shared_.values.data() + i * width;
      if (seen)
        std::copy_n(stream(head_rows_[i]), width, to);
      else
        normalize(stream(head_rows_[i]), model_.norm_, to);
      kernels::quantize_blocks(to, i, 0, width / QuantizedRows::kBlock, shared_.normed);
    }
    meet();
    const PanelMatrix& head = *model_.head_;
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
    if (const auto cap = static_cast<float>(config_.final_softcap); cap > 0)
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = panels.begin * kPanelRows; j < std::min(panels.end * kPanelRows, vocabulary); ++j)
          logits_[i * vocabulary + j] = cap * std::tanh(logits_[i * vocabulary + j] / cap);
  }

  QuantizedTransformer& model_;
  const TransformerConfig& config_;
  const int threads_;
  RowVisitor* visitor_ = nullptr;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::vector<int32_t> ids_;
  std::vector<Row> rows_;
  std::vector<int64_t> head_rows_;  ///< tokens whose logits are wanted
  int64_t tokens_ = 0, longest_ = 0, queries_width_ = 0, keys_width_ = 0, head_width_ = 0;
  std::vector<float> stream_, written_, queries_, keys_, values_, mixed_, gate_, up_, logits_;
  QuantizedRows hidden_;
  Prepared shared_;
  struct alignas(64) Own {
    Prepared prepared;
    std::vector<float> scores, heads, ends;
  };
  std::vector<Own> own_;
};

QuantizedTransformer::QuantizedTransformer(const std::filesystem::path& path, int threads) : file_(path), team_(threads) {
  ModelDescription description = describe_gguf(file_);
  config_ = description.config;
  refuse_what_is_not_here(config_, path.string());
  const Parameters parameters(file_, description);
  sites_.push_back({"embedding", config_.width});
  std::vector<std::string> matrices;
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string block = fmt::format("block{}.", i), site = fmt::format("blocks.{}.", i);
    for (const auto& [name, width] : {std::pair{"attention", config_.width}, {"mlp.input", config_.width}, {"mlp.act", config_.feed_forward_width},
                                      {"mlp", config_.width}, {"output", config_.width}})
      sites_.push_back({site + name, width});
    for (const char* name : {"query", "key", "value", "output", "gate", "up", "down"})
      if (parameters.has(block + name)) matrices.push_back(block + name);
  }
  sites_.push_back({"norm", config_.width});
  const std::string head = config_.tied_head ? "embedding" : "head";
  try {
    matrices.push_back(head);
    for (const std::string& name : matrices) weight_bytes_ += parameters.bytes(name);
    memory_ = std::make_unique<PanelMemory>(weight_bytes_);
    for (int64_t i = 0; i < config_.layers; ++i) {
      const std::string name = fmt::format("block{}.", i);
      Block block;
      block.local = is_local(config_, i);
      for (const auto& [vector, at] : {std::pair{"attention_norm", &block.attention_norm}, {"attention_post_norm", &block.attention_post_norm},
                                       {"mlp_norm", &block.mlp_norm}, {"mlp_post_norm", &block.mlp_post_norm}, {"query_norm", &block.query_norm},
                                       {"key_norm", &block.key_norm}, {"query_bias", &block.query_bias}, {"key_bias", &block.key_bias},
                                       {"value_bias", &block.value_bias}, {"output_bias", &block.output_bias}, {"gate_bias", &block.gate_bias},
                                       {"up_bias", &block.up_bias}, {"down_bias", &block.down_bias}})
        *at = parameters.vector(name + vector);
      for (const auto& [matrix, at] : {std::pair{"query", &block.query}, {"key", &block.key}, {"value", &block.value}, {"output", &block.output},
                                       {"gate", &block.gate}, {"up", &block.up}, {"down", &block.down}})
        if (parameters.has(name + matrix)) at->emplace(parameters.matrix(name + matrix, *memory_));
      blocks_.push_back(std::move(block));
    }
    head_.emplace(parameters.matrix(head, *memory_));
  } catch (const Error& error) {
    const std::string what = error.what();
    fail("{}{}", what.starts_with(path.string()) ? "" : path.string() + ": ", what);
  }
  embedding_ = &parameters.tensor("embedding"), head_tensor_ = &parameters.tensor(head);
  norm_ = parameters.vector("norm");
  for (const bool local : {false, true}) rotations_[local].frequencies = rotary_frequencies(config_, local);
  pass_ = std::make_unique<Pass>(*this);
}

QuantizedTransformer::~QuantizedTransformer() = default;

std::vector<float> QuantizedTransformer::head_weights() const { return dequantize(*head_tensor_); }

void QuantizedTransformer::extend_rotation(int64_t tokens) {
  if (tokens <= rotated_tokens_) return;
  constexpr int64_t kStep = 256;
  const int64_t wanted = std::min(config_.context, (tokens + kStep - 1) / kStep * kStep);
  for (Rotation& rotation : rotations_) {
    for (int64_t t = rotated_tokens_; t < wanted; ++t) {
      for (const double frequency : rotation.frequencies) {
        rotation.cosines.push_back(static_cast<float>(std::cos(static_cast<double>(t) * frequency)));
        rotation.sines.push_back(static_cast<float>(std::sin(static_cast<double>(t) * frequency)));
      }
    }
  }
  rotated_tokens_ = wanted;
}

std::span<const float> QuantizedTransformer::forward(std::span<const TokenRun> runs, LogitsOf wanted, RowVisitor* visitor) {
  if (runs.empty()) return {};
  return pass_->run(runs, wanted, visitor);
}

}  // namespace sememe
