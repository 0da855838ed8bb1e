#include <algorithm>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/inference/continuous_decoder.h"
#include "sememe/inference/sampling.h"
#include "sememe/language/language_model.h"
#include "sememe/language/quantized_network.h"

namespace sememe {

namespace {

Sampler sampler_of(const GenerateOptions& options, std::string_view stream) {
  if (options.tokens < 0) fail_usage("the number of tokens cannot be negative");
  for (const std::string& stop : options.stops)
    if (stop.empty()) fail_usage("a text to stop at cannot be empty");
  return Sampler({.temperature = options.temperature, .top_k = options.top_k, .top_p = options.top_p}, options.seed, stream);
}

/// One id by the last row of logits [tokens, vocabulary].
int32_t draw(Sampler& sampler, const torch::Tensor& logits, int64_t vocabulary, int64_t count) {
  const torch::Tensor last = logits.select(0, -1).to(torch::kCPU, torch::kFloat32).contiguous();
  if (!torch::isfinite(last).all().item<bool>()) fail("the logits after {} new tokens are not finite", count);
  return sampler.draw({last.const_data_ptr<float>(), static_cast<size_t>(vocabulary)});
}

/// A text that grows and ends before a stop.
class StoppedText {
 public:
  StoppedText(const std::vector<std::string>& stops, const std::function<void(std::string_view)>& on_text) : stops_(stops), on_text_(on_text) {}

  /// @return false once a stop has appeared
  bool add(std::string_view piece) {
    text_ += piece;
    size_t decided = text_.size();
    for (const std::string& stop : stops_) {
      const size_t from = given_ >= stop.size() ? given_ - stop.size() + 1 : 0;
      if (const size_t found = text_.find(stop, from); found != std::string::npos) {
        text_.resize(found);
        stopped_ = true;
      }
    }
    if (stopped_) return false;
    for (const std::string& stop : stops_)
      for (size_t length = std::min(stop.size() - 1, text_.size()); length > 0; --length)
        if (text_.ends_with(std::string_view(stop).substr(0, length))) {
          decided = std::min(decided, text_.size() - length);
          break;
        }
    give(decided);
    return true;
  }
  std::string finish() {
    give(text_.size());
    return std::move(text_);
  }

 private:
  void give(size_t end) {
    if (end > given_ && on_text_) on_text_(std::string_view(text_).substr(given_, end - given_));
    given_ = std::max(given_, end);
  }

  const std::vector<std::string>& stops_;
  const std::function<void(std::string_view)>& on_text_;
  std::string text_;
  size_t given_ = 0;
  bool stopped_ = false;
};

/// What stands before a text, and the prompt. A GGUF file says whether anything does.
std::vector<int64_t> opening(const LanguageModel& model, const std::string& prompt) {
  const std::vector<int32_t> ids = model.tokenizer.encode(prompt);
  std::vector<int64_t> opening;
  if (model.tokenizer.adds_beginning_of_text() || model.folder.extension() != ".gguf" || ids.empty()) opening.push_back(model.tokenizer.opening());
  opening.insert(opening.end(), ids.begin(), ids.end());
  if (const int64_t context = model.network->config().context; static_cast<int64_t>(opening.size()) > context)
    fail("the prompt has {} tokens but the model's context is {}; give a shorter one", opening.size(), context);
  return opening;
}

}  // namespace

std::string generate(const LanguageModel& model, const std::string& prompt, const GenerateOptions& options,
                     SiteVisitor& visitor, const std::function<void(std::string_view)>& on_text) {
  Sampler sampler = sampler_of(options, "generate");
  torch::NoGradGuard no_grad;
  const int64_t context = model.network->config().context;
  const torch::Device device = model.network->device();
  const std::vector<int32_t>& ends = model.tokenizer.ends();
  std::vector<int64_t> fresh = opening(model, prompt);
  KeyValueCache cache;
  StoppedText text(options.stops, on_text);
  for (int64_t count = 0; count < options.tokens && !interrupted(); ++count) {
    const torch::Tensor inputs = torch::tensor(fresh, torch::kInt64).unsqueeze(0).to(device);
    const torch::Tensor logits = model.network->forward({inputs, {}}, visitor, cache);
    if (!logits.defined()) fail("the visitor stopped the network before its output; nothing can be generated");
    const int32_t id = draw(sampler, logits[0], model.tokenizer.size(), count);
    if (std::find(ends.begin(), ends.end(), id) != ends.end() || !text.add(model.tokenizer.token(id)) || cache.tokens == context) break;
    fresh = {id};
  }
  return text.finish();
}

std::vector<std::vector<int32_t>> generate_samples(const LanguageModel& model, const std::string& prompt, int64_t rows,
                                                   const GenerateOptions& options, SiteVisitor& visitor) {
  torch::NoGradGuard no_grad;
  const int64_t context = model.network->config().context;
  const torch::Device device = model.network->device();
  const std::vector<int32_t>& ends = model.tokenizer.ends();
  torch::Tensor inputs = torch::tensor(opening(model, prompt), torch::kInt64).repeat({rows, 1});
  KeyValueCache cache;
  std::vector<Sampler> samplers;
  for (int64_t row = 0; row < rows; ++row) samplers.push_back(sampler_of(options, fmt::format("generate/{}", row)));
  std::vector<std::vector<int32_t>> samples(rows);
  std::vector<bool> ended(rows, false);
  for (int64_t count = 0; count < options.tokens && !interrupted(); ++count) {
    const torch::Tensor logits = model.network->forward({inputs.to(device), {}}, visitor, cache);
    if (!logits.defined()) fail("the visitor stopped the network before its output; nothing can be generated");
    inputs = torch::full({rows, 1}, model.tokenizer.end_of_text(), torch::kInt64);
    for (int64_t row = 0; row < rows; ++row) {
      if (ended[row]) continue;  // goes on with end-of-text, which nobody reads
      const int32_t id = draw(samplers[row], logits[row], model.tokenizer.size(), count);
      ended[row] = std::find(ends.begin(), ends.end(), id) != ends.end();
      if (!ended[row]) samples[row].push_back(id);
      inputs[row][0] = id;
    }
    if (cache.tokens == context || std::find(ended.begin(), ended.end(), false) == ended.end()) break;
  }
  return samples;
}

void generate_many(const LanguageModel& model, const std::vector<std::string>& prompts, const GenerateOptions& options, int64_t at_once,
                   const std::function<void(size_t prompt, const std::string& text)>& on_text) {
  const auto network = std::dynamic_pointer_cast<QuantizedNetwork>(model.network);
  if (network == nullptr) fail_usage("many prompts at once run on the quantised engine only, which runs .gguf files and folders; leave out --float32 and --device");
  ContinuousDecoder decoder(network->engine(), at_once, model.tokenizer.size());
  const std::vector<int32_t>& ends = model.tokenizer.ends();
  const std::function<void(std::string_view)> nobody;
  struct Continuation {
    StoppedText text;
    int64_t tokens = 0;
    bool ended = false;
  };
  std::vector<std::unique_ptr<Continuation>> continuations;
  const auto end = [&](size_t i) {
    continuations[i]->ended = true;
    on_text(i, continuations[i]->text.finish());
  };
  for (size_t i = 0; i < prompts.size(); ++i) {
    continuations.push_back(std::make_unique<Continuation>(Continuation{StoppedText(options.stops, nobody)}));
    std::vector<int64_t> ids;
    try {
      ids = opening(model, prompts[i]);
    } catch (const Error& error) {
      fail("prompt {}: {}", i + 1, error.what());
    }
    if (options.tokens == 0) continue;
    const int64_t most = std::min(options.tokens, network->config().context + 1 - static_cast<int64_t>(ids.size()));
    decoder.add({ids.begin(), ids.end()}, sampler_of(options, fmt::format("generate/{}", i)), [&, i, most](int32_t id) {
      Continuation& one = *continuations[i];
      const bool goes_on = std::find(ends.begin(), ends.end(), id) == ends.end() && one.text.add(model.tokenizer.token(id)) && ++one.tokens < most;
      if (!goes_on) end(i);
      return goes_on;
    });
  }
  while (!interrupted() && decoder.step()) {
  }
  for (size_t i = 0; i < prompts.size(); ++i)
    if (!continuations[i]->ended) end(i);
}

}  // namespace sememe
