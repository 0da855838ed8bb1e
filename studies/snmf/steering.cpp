#include "studies/snmf/steering.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "sememe/base/interrupt.h"
#include "sememe/data/byte_stream.h"
#include "sememe/features/bootstrap.h"
#include "sememe/features/intervention.h"

namespace sememe::snmf {
namespace {

constexpr const char* kPrompt = "I think that";
constexpr std::array kTargets = {0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5};  // nats
constexpr double kLanding = 0.01;                                           // nats off the target
constexpr int64_t kWordList = 20;
constexpr int64_t kUnsteered = 256;  // samples that say what fluent is

/// Tokens may end within a character.
std::string shown(std::string text) {
  repair_utf8(text);
  return text;
}

/// Tokens that begin a word and have at least three letters: pieces of words say nothing of a concept.
std::vector<bool> whole_words(const Tokenizer& tokenizer) {
  std::vector<bool> whole(tokenizer.size(), false);
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const std::string_view text = tokenizer.token(id);
    whole[id] = text.size() >= 4 && text[0] == ' ' &&
                std::all_of(text.begin() + 1, text.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
  }
  return whole;
}

/// Mean over the sample's tokens. @param predicted [positions, vocabulary]
double log_likelihood(const torch::Tensor& predicted, const std::vector<int32_t>& sample) {
  double sum = 0.0;
  const auto values = predicted.accessor<float, 2>();
  for (size_t i = 0; i < sample.size(); ++i) sum += values[static_cast<int64_t>(i)][sample[i]];
  return sum / static_cast<double>(sample.size());
}

}  // namespace

Json Steered::json() const {
  return {{"score", score}, {"concept", concept_score}, {"fluency", fluency}, {"kl", kl}, {"sign", sign}, {"crossed", crossed},
          {"sample", sample}};
}

Steering::Steering(const LanguageModel& model, const std::vector<std::string>& sites, const SamplePlan& plan, const Sentences& judged,
                   uint64_t seed)
    : model_(model),
      plan_(plan),
      seed_(seed),
      judged_ids_(judged.ids(model.tokenizer)),
      classifier_(judged_ids_, judged.labels, kNumConcepts, model.tokenizer.size()),
      words_(label_word_lists(judged_ids_, judged.labels, kNumConcepts, whole_words(model.tokenizer), kWordList)),
      prompt_ids_(model.tokenizer.encode(kPrompt)) {
  const torch::NoGradGuard no_grad;
  TokenBatch prompt;
  prompt.tokens = sequences({std::vector<int32_t>{}});
  prompt.targets = torch::full_like(prompt.tokens, -100);
  prompt.valid = torch::zeros_like(prompt.tokens, torch::kBool);
  prompt.valid.select(1, -1).fill_(true);  // KL at the last token of the prompt only
  prompt.valid_tokens = 1;
  for (const std::string& site : sites) probes_.emplace(site, InjectionProbe(model, site, prompt));
  SiteVisitor nobody;
  const auto samples = generate_samples(model, kPrompt, kUnsteered, generation(), nobody);
  const torch::Tensor predicted = log_probabilities(samples, nobody);
  for (size_t i = 0; i < samples.size(); ++i)
    if (!samples[i].empty()) unsteered_.push_back(log_likelihood(predicted[static_cast<int64_t>(i)], samples[i]));
  std::sort(unsteered_.begin(), unsteered_.end());
  unsteered_text_ = shown(model.tokenizer.decode(samples[0]));
}

Steered Steering::steer(const std::string& site, const torch::Tensor& direction, int64_t concept_label) {
  const torch::NoGradGuard no_grad;
  const InjectionProbe& probe = probes_.at(site);
  const auto settings = static_cast<int64_t>(2 * kTargets.size()), rows = settings * plan_.samples;
  torch::Tensor additions = torch::zeros({settings, direction.size(0)});
  std::vector<bool> reached(settings, false);
  for (int64_t i = 0; i < settings; ++i) {
    const double target = kTargets[i / 2];
    const torch::Tensor signed_direction = i % 2 == 0 ? direction : -direction;
    const std::optional<double> norm = norm_at_kl(probe, signed_direction, target);
    ++asked_;
    if (!norm) continue;
    reached[i] = true;
    additions[i] = signed_direction * *norm;
    ++reachable_;
    landed_ += std::abs(probe.kl(probe.injected(additions[i])) - target) <= kLanding;
  }
  const torch::Tensor of_rows = additions.repeat_interleave(plan_.samples, 0).unsqueeze(1);
  InterveneSite while_writing(site, of_rows), while_reading(site, of_rows, Passes::kWholeContexts);
  const auto samples = generate_samples(model_, kPrompt, rows, generation(), while_writing);
  SiteVisitor nobody;
  const torch::Tensor unsteered = log_probabilities(samples, nobody), steered = log_probabilities(samples, while_reading);
  Steered best;
  std::array<std::vector<double>, 2> halves;  // of each reached setting, sums over even and odd samples
  for (int64_t i = 0; i < settings; ++i) {
    if (!reached[i]) continue;
    for (std::vector<double>& half : halves) half.push_back(0.0);
    Steered here;
    here.kl = kTargets[i / 2];
    here.sign = i % 2 == 0 ? 1 : -1;
    for (int64_t row = i * plan_.samples; row < (i + 1) * plan_.samples; ++row) {
      if (samples[row].empty()) continue;
      const double rise = log_mass(steered[row], samples[row], concept_label) - log_mass(unsteered[row], samples[row], concept_label);
      const double about = sememe::concept_score(rise, classifier_.posterior(samples[row])[concept_label]);
      const double fluent = fluency_score(log_likelihood(unsteered[row], samples[row]), unsteered_);
      const auto share = 1.0 / static_cast<double>(plan_.samples);
      here.score += share * harmonic_mean(about, fluent);
      halves[row % 2].back() += 2.0 * share * harmonic_mean(about, fluent);
      here.concept_score += share * about;
      here.fluency += share * fluent;
    }
    here.sample = shown(model_.tokenizer.decode(samples[i * plan_.samples]));
    if (best.sign == 0 || here.score > best.score) best = here;
  }
  for (size_t half = 0; half < 2 && !halves[0].empty(); ++half)
    best.crossed += 0.5 * halves[1 - half][std::max_element(halves[half].begin(), halves[half].end()) - halves[half].begin()];
  if (interrupted()) throw Interrupted("stopped while steering; nothing was written");
  return best;
}

Json Steering::judges(const Sentences& fitted) const {
  Json lists = Json::object();
  for (int64_t label = 0; label < kNumConcepts; ++label)
    for (const int32_t id : words_[label]) lists[kConcepts[label]].push_back(shown(std::string(model_.tokenizer.token(id))));
  return {{"classifier_accuracy", classifier_.accuracy(fitted.ids(model_.tokenizer), fitted.labels)},
          {"word_lists", lists}, {"unsteered_log_likelihood", {unsteered_.front(), percentile(unsteered_, 50), unsteered_.back()}},
          {"unsteered_sample", unsteered_text_}};
}

GenerateOptions Steering::generation() const {
  return {.tokens = plan_.new_tokens, .temperature = 1.0, .top_k = 30, .seed = seed_, .top_p = 0.3};
}

/// End-of-text, the prompt and a sample a row, padded with end-of-text.
torch::Tensor Steering::sequences(const std::vector<std::vector<int32_t>>& samples) const {
  size_t longest = 0;
  for (const auto& sample : samples) longest = std::max(longest, sample.size());
  const auto opening = static_cast<int64_t>(prompt_ids_.size()) + 1;
  torch::Tensor ids = torch::full({static_cast<int64_t>(samples.size()), opening + static_cast<int64_t>(longest)},
                                  model_.tokenizer.end_of_text(), torch::kInt64);
  for (size_t i = 0; i < samples.size(); ++i) {
    int64_t* const row = ids[static_cast<int64_t>(i)].data_ptr<int64_t>();
    std::copy(prompt_ids_.begin(), prompt_ids_.end(), row + 1);
    std::copy(samples[i].begin(), samples[i].end(), row + opening);
  }
  return ids;
}

/// Of what follows each token from the prompt's last on [rows, longest sample + 1, vocabulary].
torch::Tensor Steering::log_probabilities(const std::vector<std::vector<int32_t>>& samples, SiteVisitor& visitor) const {
  const torch::Tensor logits = model_.network->forward({sequences(samples), {}}, visitor);
  const auto last = static_cast<int64_t>(prompt_ids_.size());
  return logits.narrow(1, last, logits.size(1) - last).log_softmax(-1);
}

/// Log-probability of all words of the concept together, mean over the places where the sample's tokens were chosen.
double Steering::log_mass(const torch::Tensor& predicted, const std::vector<int32_t>& sample, int64_t concept_label) const {
  const std::vector<int32_t>& words = words_[concept_label];
  const torch::Tensor ids = torch::tensor(std::vector<int64_t>(words.begin(), words.end()), torch::kInt64);
  return predicted.narrow(0, 0, static_cast<int64_t>(sample.size())).index_select(1, ids).logsumexp(-1).mean().item<double>();
}

}  // namespace sememe::snmf
