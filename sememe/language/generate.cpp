#include <algorithm>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/random.h"
#include "sememe/language/language_model.h"

namespace sememe {

namespace {

/// One id from the logits [vocabulary] of the last token.
int32_t draw(const torch::Tensor& logits, const GenerateOptions& options, RandomStream& stream) {
  if (options.temperature == 0) return static_cast<int32_t>(logits.argmax().item<int64_t>());
  const int64_t kept = options.top_k == 0 ? logits.size(0) : std::min(options.top_k, logits.size(0));
  const auto [values, ids] = torch::topk(logits.to(torch::kFloat64), kept);
  const torch::Tensor sums = torch::softmax(values / options.temperature, 0).cumsum(0);
  // The nucleus ends with the id that brings the sum to top_p; it is never empty.
  double mass = 1.0;
  if (options.top_p < 1) {
    const auto last = torch::searchsorted(sums, torch::tensor(options.top_p, torch::kFloat64)).item<int64_t>();
    mass = sums[std::min(last, kept - 1)].item<double>();
  }
  const torch::Tensor place = torch::searchsorted(sums, torch::tensor(mass * stream.uniform(), torch::kFloat64), false, true);
  return static_cast<int32_t>(ids[std::min(place.item<int64_t>(), kept - 1)].item<int64_t>());
}

void check_options(const GenerateOptions& options) {
  if (options.tokens < 0 || options.top_k < 0 || !(options.temperature >= 0))
    fail_usage("the number of tokens, top-k and the temperature cannot be negative");
  if (!(options.top_p > 0 && options.top_p <= 1)) fail_usage("top-p {}: give a share above 0, at most 1", options.top_p);
}

/// End-of-text and the prompt.
std::vector<int64_t> opening(const LanguageModel& model, const std::string& prompt) {
  const std::vector<int32_t> ids = model.tokenizer.encode(prompt);
  std::vector<int64_t> opening = {model.tokenizer.end_of_text()};
  opening.insert(opening.end(), ids.begin(), ids.end());
  if (const int64_t context = model.network->config().context; static_cast<int64_t>(opening.size()) > context)
    fail("the prompt has {} tokens but the model's context is {}; give a shorter one", opening.size(), context);
  return opening;
}

}  // namespace

std::string generate(const LanguageModel& model, const std::string& prompt, const GenerateOptions& options,
                     SiteVisitor& visitor, const std::function<void(std::string_view)>& on_text) {
  check_options(options);
  torch::NoGradGuard no_grad;
  const int64_t context = model.network->config().context;
  const torch::Device device = model.network->head().device();
  const int32_t end = model.tokenizer.end_of_text();
  std::vector<int64_t> fresh = opening(model, prompt);
  KeyValueCache cache;
  RandomStream stream(options.seed, "generate");
  std::string text;
  for (int64_t count = 0; count < options.tokens && !interrupted(); ++count) {
    const torch::Tensor inputs = torch::tensor(fresh, torch::kInt64).unsqueeze(0).to(device);
    const torch::Tensor logits = model.network->forward({inputs, {}}, visitor, cache);
    if (!logits.defined()) fail("the visitor stopped the network before its output; nothing can be generated");
    const torch::Tensor last = logits.select(0, 0).select(0, -1).cpu();
    if (!torch::isfinite(last).all().item<bool>()) fail("the logits after {} new tokens are not finite", count);
    const int32_t id = draw(last.narrow(0, 0, model.tokenizer.size()), options, stream);
    if (id == end) break;
    const std::string_view piece = model.tokenizer.token(id);
    text += piece;
    if (on_text) on_text(piece);
    if (cache.tokens == context) break;
    fresh = {id};
  }
  return text;
}

std::vector<std::vector<int32_t>> generate_samples(const LanguageModel& model, const std::string& prompt, int64_t rows,
                                                   const GenerateOptions& options, SiteVisitor& visitor) {
  check_options(options);
  torch::NoGradGuard no_grad;
  const int64_t context = model.network->config().context;
  const torch::Device device = model.network->head().device();
  const int32_t end = model.tokenizer.end_of_text();
  torch::Tensor inputs = torch::tensor(opening(model, prompt), torch::kInt64).repeat({rows, 1});
  KeyValueCache cache;
  std::vector<RandomStream> streams;
  for (int64_t row = 0; row < rows; ++row) streams.emplace_back(options.seed, fmt::format("generate/{}", row));
  std::vector<std::vector<int32_t>> samples(rows);
  std::vector<bool> ended(rows, false);
  for (int64_t count = 0; count < options.tokens && !interrupted(); ++count) {
    const torch::Tensor logits = model.network->forward({inputs.to(device), {}}, visitor, cache);
    if (!logits.defined()) fail("the visitor stopped the network before its output; nothing can be generated");
    const torch::Tensor last = logits.select(1, -1).cpu();
    if (!torch::isfinite(last).all().item<bool>()) fail("the logits after {} new tokens are not finite", count);
    inputs = torch::full({rows, 1}, end, torch::kInt64);
    for (int64_t row = 0; row < rows; ++row) {
      if (ended[row]) continue;  // goes on with end-of-text, which nobody reads
      const int32_t id = draw(last[row].narrow(0, 0, model.tokenizer.size()), options, streams[row]);
      ended[row] = id == end;
      if (!ended[row]) samples[row].push_back(id);
      inputs[row][0] = id;
    }
    if (cache.tokens == context || std::find(ended.begin(), ended.end(), false) == ended.end()) break;
  }
  return samples;
}

}  // namespace sememe
