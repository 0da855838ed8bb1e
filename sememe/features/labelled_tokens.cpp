#include "sememe/features/labelled_tokens.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/features/site_visitors.h"

namespace sememe {

LabelledTokens label_tokens(const LanguageModel& model, std::span<const std::string> sentences, std::span<const int64_t> labels,
                            const std::string& site) {
  const torch::NoGradGuard no_grad;
  find_site(*model.network, site);
  if (labels.size() != sentences.size()) fail("{} sentences were given {} labels", sentences.size(), labels.size());
  LabelledTokens tokens;
  tokens.offsets.push_back(0);
  std::vector<torch::Tensor> rows;
  Progress progress("label tokens", static_cast<int64_t>(sentences.size()), "sentences");
  for (size_t i = 0; i < sentences.size(); ++i) {
    std::vector<int32_t> ids = model.tokenizer.encode(sentences[i]);
    if (ids.empty()) fail("sentence {} has no tokens", i);
    ids.resize(std::min<size_t>(ids.size(), model.text_context() - 1));
    std::vector<int64_t> inputs = {model.tokenizer.opening()};
    inputs.insert(inputs.end(), ids.begin(), ids.end());
    RecordSite record(site, true);
    model.network->forward({torch::tensor(inputs, torch::kInt64).unsqueeze(0), {}}, record);
    rows.push_back(record.value()[0].narrow(0, 1, static_cast<int64_t>(ids.size())).clone());
    tokens.ids.insert(tokens.ids.end(), ids.begin(), ids.end());
    tokens.sentences.insert(tokens.sentences.end(), ids.size(), static_cast<int64_t>(i));
    tokens.labels.insert(tokens.labels.end(), ids.size(), labels[i]);
    tokens.offsets.push_back(tokens.tokens());
    progress.update(static_cast<int64_t>(i) + 1);
    if (interrupted()) throw Interrupted("stopped while reading labelled sentences; nothing was written");
  }
  if (!rows.empty()) tokens.activations = torch::cat(rows);
  return tokens;
}

std::vector<double> leading_label_shares(const torch::Tensor& values, std::span<const int64_t> labels, int64_t num_labels, int64_t count) {
  if (values.dim() != 1 || values.size(0) != static_cast<int64_t>(labels.size()))
    fail("{} values were given for {} labelled tokens", values.numel(), labels.size());
  std::vector<double> shares(num_labels, 0.0);
  const torch::Tensor sorted = values.to(torch::kFloat).contiguous();
  const float* const value = sorted.const_data_ptr<float>();
  std::vector<int64_t> order(labels.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  if (count < 1 || static_cast<int64_t>(order.size()) < count) return shares;
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int64_t a, int64_t b) { return value[a] != value[b] ? value[a] > value[b] : a < b; });
  if (!(value[order[count - 1]] > 0)) return shares;
  for (int64_t i = 0; i < count; ++i) shares[labels[order[i]]] += 1.0 / static_cast<double>(count);
  return shares;
}

double chance_purity(std::span<const int64_t> labels, int64_t num_labels, uint64_t seed, int64_t count, int64_t draws) {
  const auto tokens = static_cast<int64_t>(labels.size());
  if (count < 1 || count > tokens || draws < 1) fail("{} tokens cannot be drawn {} times among {}", count, draws, tokens);
  RandomStream stream(seed, "labels/chance");
  std::vector<int64_t> order(tokens);
  std::iota(order.begin(), order.end(), int64_t{0});
  double sum = 0.0;
  for (int64_t draw = 0; draw < draws; ++draw) {
    std::vector<int64_t> counts(num_labels, 0);
    for (int64_t i = 0; i < count; ++i) {  // the first steps of a Fisher-Yates shuffle
      std::swap(order[i], order[i + static_cast<int64_t>(stream.below(tokens - i))]);
      ++counts[labels[order[i]]];
    }
    sum += static_cast<double>(*std::max_element(counts.begin(), counts.end())) / static_cast<double>(count);
  }
  return sum / static_cast<double>(draws);
}

torch::Tensor cosines_with(const torch::Tensor& rows, const torch::Tensor& directions) {
  const auto unit_rows = [](const torch::Tensor& m) { return m / m.norm(2, {1}, true).clamp_min(1e-12); };
  return torch::mm(unit_rows(rows), unit_rows(directions).t());
}

torch::Tensor sentence_scores(const LabelledTokens& tokens, const torch::Tensor& directions) {
  const torch::Tensor cosines = cosines_with(tokens.activations, directions);
  std::vector<torch::Tensor> scores;
  for (size_t i = 0; i + 1 < tokens.offsets.size(); ++i)
    scores.push_back(std::get<0>(cosines.narrow(0, tokens.offsets[i], tokens.offsets[i + 1] - tokens.offsets[i]).max(0)));
  return torch::stack(scores);
}

double detection_score(std::span<const double> activating, std::span<const double> neutral) {
  const auto mean = [](std::span<const double> scores) {
    return std::max(1e-6, std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size()));
  };
  if (activating.empty() || neutral.empty()) fail("a detection score needs activating and neutral sentences");
  return std::log(mean(activating) / mean(neutral));
}

}  // namespace sememe
