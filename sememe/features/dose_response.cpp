#include "sememe/features/dose_response.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/data/byte_stream.h"
#include "sememe/features/capture.h"
#include "sememe/features/described_text.h"
#include "sememe/features/injection.h"
#include "sememe/features/intervention.h"
#include "sememe/features/logit_lens.h"

namespace sememe {
namespace {

constexpr int64_t kPromoted = 8;
constexpr int64_t kPrompts = 4, kPromptTokens = 8;  // taken from the text
constexpr int kRandomDirections = 8;

void stop_if_interrupted() {
  if (interrupted()) throw Interrupted("interrupted while measuring doses; nothing was written");
}

TokenBatch batch_of_prompt(const LanguageModel& model, const std::string& prompt) {
  TokenBatch batch;
  batch.tokens = prompt_ids(model, prompt).to(torch::kCPU);
  batch.valid = torch::ones_like(batch.tokens, torch::kBool);
  batch.valid.narrow(1, 0, 1).fill_(false);
  batch.targets = batch.tokens.roll(-1, 1);
  batch.targets.narrow(1, batch.targets.size(1) - 1, 1).fill_(-100);
  batch.valid_tokens = batch.tokens.size(1) - 1;
  if (batch.valid_tokens < 1) fail_usage("--prompt: is empty; give a text to continue");
  return batch;
}

/// The first tokens of some contexts, as text.
std::vector<std::string> beginnings(const LanguageModel& model, const TokenBatch& batch) {
  std::vector<std::string> prompts;
  for (int64_t row = 0; row < batch.tokens.size(0) && static_cast<int64_t>(prompts.size()) < kPrompts; ++row) {
    const int64_t length = std::min(kPromptTokens, batch.valid[row].sum().item<int64_t>());
    std::string prompt;
    for (int64_t i = 1; i <= length; ++i) prompt += model.tokenizer.token(static_cast<int32_t>(batch.tokens[row][i].item<int64_t>()));
    repair_utf8(prompt);
    if (!prompt.empty() && std::find(prompts.begin(), prompts.end(), prompt) == prompts.end()) prompts.push_back(std::move(prompt));
  }
  return prompts;
}

/// How many of a text's tokens there are, and how many belong to one of the words.
std::pair<int64_t, int64_t> count_tokens_of(const LanguageModel& model, const std::string& text, const std::vector<std::string>& key_words) {
  std::string spelt;
  std::vector<size_t> offsets{0};
  for (const int32_t id : model.tokenizer.encode(text)) {
    spelt += model.tokenizer.token(id);
    offsets.push_back(spelt.size());
  }
  int64_t found = 0;
  const std::vector<std::string> words = words_of_tokens(spelt, offsets);
  for (const std::string& word : words) found += std::find(key_words.begin(), key_words.end(), word) != key_words.end();
  return {static_cast<int64_t>(words.size()), found};
}

/// A direction with the tokens that it promotes.
struct Direction {
  torch::Tensor row;       // [width], of norm 1
  torch::Tensor promoted;  // ids, or undefined
};

class DoseMeter {
 public:
  DoseMeter(const Dictionary& dictionary, const LanguageModel& model, const DoseOptions& options, const TokenBatch& batch)
      : dictionary_(dictionary),
        model_(model),
        options_(options),
        probe_(model, options.site, batch, options.device),
        prompts_(options.prompt.empty() ? beginnings(model, batch) : std::vector{options.prompt}),
        clean_(moments(probe_.clean())) {}

  const InjectionProbe& probe() const { return probe_; }
  const std::vector<std::string>& prompts() const { return prompts_; }

  Direction direction(const torch::Tensor& row) const {
    const torch::Tensor unit =
        torch::nn::functional::normalize(row.to(options_.device, torch::kFloat), torch::nn::functional::NormalizeFuncOptions().dim(0));
    const torch::Tensor logits = logit_lens(model_, find_site(*model_.network, options_.site), unit.unsqueeze(0));
    if (!logits.defined()) return {unit, {}};
    return {unit, std::get<1>(logits[0].topk(std::min(kPromoted, logits.size(1))))};
  }

  Json promoted_texts(const Direction& direction) const {
    Json texts = Json::array();
    if (!direction.promoted.defined()) return texts;
    for (int64_t i = 0; i < direction.promoted.size(0); ++i) {
      std::string text(model_.tokenizer.token(static_cast<int32_t>(direction.promoted[i].item<int64_t>())));
      repair_utf8(text);
      texts.push_back(std::move(text));
    }
    return texts;
  }

  /// The shift of the predictions: {"norm", "kl", "ce_change", "promoted_mass", "promoted_mass_change"}.
  Json shift(const Direction& direction, double norm) const {
    stop_if_interrupted();
    const torch::Tensor injected = probe_.injected(direction.row * norm);
    const double kl = probe_.kl(injected);
    if (!std::isfinite(kl)) fail("the model's predictions with a norm of {:g} injected are not finite; take smaller strengths", norm);
    const Moments moved = moments(injected);
    Json json{{"norm", norm}, {"kl", kl}, {"ce_change", moved.cross_entropy - clean_.cross_entropy}, {"promoted_mass", nullptr},
              {"promoted_mass_change", nullptr}};
    if (direction.promoted.defined()) {
      json["promoted_mass"] = moved.mass(direction.promoted);
      json["promoted_mass_change"] = moved.mass(direction.promoted) - clean_.mass(direction.promoted);
    }
    return json;
  }

  /// The curve of one latent.
  Json curve(const DosedLatent& dosed) const {
    const Direction direction = this->direction(dictionary_.atoms()[dosed.latent]);
    const SteeringUnit unit = dosed.unit.value_or(SteeringUnit{probe_.mean_norm(), "the mean norm of the text's activations at the site"});
    Json json{{"latent", dosed.latent},          {"unit", unit.norm},
              {"unit_meaning", unit.meaning},    {"key_words", dosed.key_words},
              {"promoted", promoted_texts(direction)}, {"doses", Json::array()}};
    Progress progress(fmt::format("dose latent {}", dosed.latent), static_cast<int64_t>(options_.strengths.size()), "strengths");
    for (const double strength : options_.strengths) {
      Json dose = shift(direction, strength * unit.norm);
      dose["strength"] = strength;
      write(Edit::add(dosed.latent, strength, unit.norm), dosed.key_words, dose);
      json["doses"].push_back(std::move(dose));
      progress.update(static_cast<int64_t>(json["doses"].size()));
    }
    return json;
  }

 private:
  struct Moments {
    torch::Tensor probabilities;  // [vocabulary], mean over the text
    double cross_entropy = 0.0;
    double mass(const torch::Tensor& ids) const { return probabilities.index_select(0, ids).sum().item<double>(); }
  };
  Moments moments(const torch::Tensor& predicted) const {
    return {predicted.exp().mean(0, false, torch::kDouble).to(torch::kCPU), probe_.cross_entropy(predicted)};
  }

  /// Continues the prompts: adds "text" and "key_word_share".
  void write(const Edit& edit, const std::vector<std::string>& key_words, Json& dose) const {
    Intervention intervention(options_.site, "", dictionary_);
    intervention.edits = {edit};
    int64_t tokens = 0, found = 0;
    for (const std::string& prompt : prompts_) {
      InterveneSite visitor(intervention, dictionary_);
      std::string text = generate(model_, prompt, options_.generate, visitor);
      repair_utf8(text);
      stop_if_interrupted();
      const auto [all, of_key_words] = count_tokens_of(model_, text, key_words);
      tokens += all;
      found += of_key_words;
      if (!dose.contains("text")) dose["text"] = text;
    }
    dose["key_word_share"] = key_words.empty() || tokens == 0 ? Json() : Json(static_cast<double>(found) / static_cast<double>(tokens));
  }

  const Dictionary& dictionary_;
  const LanguageModel& model_;
  const DoseOptions& options_;
  InjectionProbe probe_;
  std::vector<std::string> prompts_;
  Moments clean_;
};

/// Of numbers or nulls, that of the numbers; null if there are none.
Json median(const std::vector<Json>& rows, const char* key) {
  std::vector<double> sorted;
  for (const Json& row : rows)
    if (row.at(key).is_number()) sorted.push_back(row.at(key).get<double>());
  if (sorted.empty()) return {};
  std::sort(sorted.begin(), sorted.end());
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : 0.5 * (sorted[middle - 1] + sorted[middle]);
}

/// Every latent, all together and random directions at the norm, or where `kl` is given each at the norm that moves the predictions so far.
Json compare(const DoseMeter& meter, const Dictionary& dictionary, const DoseOptions& options, double norm, std::optional<double> kl) {
  const auto at_dose = [&](const Direction& direction) {
    const std::optional<double> wanted = kl ? norm_at_kl(meter.probe(), direction.row, *kl) : norm;
    if (wanted) return meter.shift(direction, *wanted);
    return Json{{"norm", nullptr}, {"kl", nullptr}, {"ce_change", nullptr}, {"promoted_mass", nullptr}, {"promoted_mass_change", nullptr}};
  };
  Json rows = Json::array();
  torch::Tensor sum = torch::zeros({dictionary.width()});
  for (const DosedLatent& dosed : options.latents) {
    const Direction direction = meter.direction(dictionary.atoms()[dosed.latent]);
    sum += direction.row.to(torch::kCPU);
    rows.push_back(at_dose(direction));
    rows.back()["name"] = fmt::format("latent {}", dosed.latent);
    rows.back()["latent"] = dosed.latent;
  }
  // Opposite directions cancel, and then there is nothing to bring to the norm.
  if (options.latents.size() > 1 && sum.norm().item<double>() > 1e-3) {
    rows.push_back(at_dose(meter.direction(sum)));
    rows.back()["name"] = "together";
  }
  RandomStream stream(options.generate.seed, "dose/random");
  std::vector<Json> random;
  for (int i = 0; i < kRandomDirections; ++i) {
    torch::Tensor row = torch::empty({dictionary.width()});
    for (int64_t j = 0; j < dictionary.width(); ++j) row[j] = static_cast<float>(stream.normal());
    random.push_back(at_dose({meter.direction(row).row, {}}));
  }
  Json control{{"name", "random"}, {"promoted_mass", nullptr}, {"promoted_mass_change", nullptr}};
  for (const char* key : {"norm", "kl", "ce_change"}) control[key] = median(random, key);
  rows.push_back(std::move(control));
  return {{"norm", kl ? Json() : Json(norm)}, {"kl", kl ? Json(*kl) : Json()}, {"rows", std::move(rows)}};
}

void check(const Dictionary& dictionary, const LanguageModel& model, const DoseOptions& options) {
  if (const Site& site = find_site(*model.network, options.site); site.width != dictionary.width())
    fail("the dictionary's width is {}, the site {} has {}; was it learnt there?", dictionary.width(), site.name, site.width);
  if (options.latents.empty()) fail_usage("--latent: give at least one");
  for (const DosedLatent& dosed : options.latents)
    if (const auto fault = fault_of(Edit::add(dosed.latent, 1.0), dictionary)) fail_usage("{}", *fault);
  if (options.strengths.empty()) fail_usage("--strength: give at least one");
  for (const double strength : options.strengths)
    if (!std::isfinite(strength)) fail_usage("--strength {}: give a finite number", strength);
  if (options.text.empty() && options.prompt.empty()) fail_usage("give --text to measure on, --prompt to continue, or both");
  if (options.tokens < 1) fail_usage("--tokens {}: give at least 1", options.tokens);
  if (!(options.norm >= 0) || !std::isfinite(options.norm))
    fail_usage("--norm {}: give a number above 0, or 0 for half the mean norm", options.norm);
  if (!(options.kl > 0) || !std::isfinite(options.kl)) fail_usage("--kl {}: give a number above 0", options.kl);
}

}  // namespace

Json dose_response(const Dictionary& dictionary, const LanguageModel& model, const DoseOptions& options) {
  const torch::NoGradGuard no_autograd;
  check(dictionary, model, options);
  TokenBatch batch;
  if (options.text.empty()) {
    batch = batch_of_prompt(model, options.prompt);
  } else {
    std::optional<TokenBatch> read = open_contexts(model, options.text, options.tokens).next();
    if (!read || read->valid_tokens == 0) fail("{}: gave no tokens; is it empty?", options.text.string());
    batch = std::move(*read);
  }
  const DoseMeter meter(dictionary, model, options, batch);
  Json result{{"site", options.site}, {"tokens", batch.valid_tokens}, {"seed", options.generate.seed}, {"prompts", meter.prompts()},
              {"latents", Json::array()}};
  for (const DosedLatent& dosed : options.latents) result["latents"].push_back(meter.curve(dosed));
  const double norm = options.norm > 0 ? options.norm : 0.5 * meter.probe().mean_norm();
  result["equal_norm"] = compare(meter, dictionary, options, norm, std::nullopt);
  result["equal_kl"] = compare(meter, dictionary, options, norm, options.kl);
  return result;
}

}  // namespace sememe
