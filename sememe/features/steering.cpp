#include "sememe/features/steering.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/data/byte_stream.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

constexpr int64_t kShownTokens = 8;

/// Log-probabilities after each token of the prompt [tokens, vocabulary] float64, and only of ids the tokenizer knows.
torch::Tensor predict(const LanguageModel& model, const torch::Tensor& ids, SiteVisitor& visitor) {
  const torch::Tensor logits = model.network->forward({ids, {}}, visitor)[0].narrow(-1, 0, model.tokenizer.size());
  if (!torch::isfinite(logits).all().item<bool>()) fail("the model's logits are not finite; take a smaller strength or activation");
  return logits.to(torch::kCPU, torch::kDouble).log_softmax(-1);
}

std::string text_of(const LanguageModel& model, int64_t id) {
  std::string text(model.tokenizer.token(static_cast<int32_t>(id)));
  repair_utf8(text);
  return text;
}

/// Tokens whose probability rises (`sign` 1) or falls (-1) most; before and after are log-probabilities [vocabulary].
Json moved_tokens(const LanguageModel& model, const torch::Tensor& before, const torch::Tensor& after, double sign) {
  const torch::Tensor change = (after.exp() - before.exp()) * sign;
  const auto [values, ids] = change.topk(std::min(kShownTokens, change.size(0)));
  Json tokens = Json::array();
  for (int64_t i = 0; i < ids.size(0) && values[i].item<double>() > 0; ++i) {
    const int64_t id = ids[i].item<int64_t>();
    tokens.push_back({{"text", text_of(model, id)},
                      {"before", std::exp(before[id].item<double>())},
                      {"after", std::exp(after[id].item<double>())}});
  }
  return tokens;
}

std::string continued(const LanguageModel& model, const std::string& prompt, const GenerateOptions& options, SiteVisitor& visitor) {
  std::string text = generate(model, prompt, options, visitor);
  repair_utf8(text);
  if (interrupted()) throw Interrupted("interrupted while steering; nothing was written");
  return text;
}

/// {"before": text, "after": [{"after": text, "kl", "kl_prompt", "raised", "lowered"} for each intervention]}
Json move_prediction(const Dictionary& dictionary, const LanguageModel& model, const std::string& at, const std::string& prompt,
                     const GenerateOptions& options, const std::vector<Intervention>& interventions) {
  const torch::NoGradGuard no_autograd;
  if (const Site& site = find_site(*model.network, at); site.width != dictionary.width())
    fail("the dictionary's width is {}, the site {} has {}; was it learnt there?", dictionary.width(), site.name, site.width);
  const torch::Tensor ids = prompt_ids(model, prompt);
  if (ids.size(1) < 2) fail_usage("--prompt: is empty; steering needs at least one token to begin with");
  SiteVisitor nothing;
  const torch::Tensor before = predict(model, ids, nothing);
  Json result{{"before", continued(model, prompt, options, nothing)}, {"after", Json::array()}};
  for (const Intervention& intervention : interventions) {
    InterveneSite prediction(intervention, dictionary), generation(intervention, dictionary);
    const torch::Tensor after = predict(model, ids, prediction);
    const torch::Tensor kl = (before.exp() * (before - after)).sum(-1);
    const torch::Tensor over_prompt = kl.narrow(0, 1, kl.size(0) - 1);  // the leading end-of-text is not edited
    result["after"].push_back({{"after", continued(model, prompt, options, generation)},
                               {"kl", kl[-1].item<double>()},
                               {"kl_prompt", over_prompt.mean().item<double>()},
                               {"raised", moved_tokens(model, before[-1], after[-1], 1.0)},
                               {"lowered", moved_tokens(model, before[-1], after[-1], -1.0)}});
  }
  return result;
}

void check_latent(const Dictionary& dictionary, int64_t latent) {
  if (latent < 0 || latent >= dictionary.size())
    fail_usage("latent {}: the dictionary has latents 0 to {}", latent, dictionary.size() - 1);
}

}  // namespace

torch::Tensor prompt_ids(const LanguageModel& model, const std::string& prompt) {
  std::vector<int64_t> ids = {model.tokenizer.opening()};
  for (const int32_t id : model.tokenizer.encode(prompt)) ids.push_back(id);
  if (const int64_t context = model.network->config().context; static_cast<int64_t>(ids.size()) > context)
    fail("the prompt has {} tokens but the model's context is {}; give a shorter one", ids.size(), context);
  return torch::tensor(ids, torch::kInt64).unsqueeze(0).to(model.network->device());
}

SteeringUnit unit_of_description(const Dictionary& dictionary, int64_t latent, double typical_maximum) {
  check_latent(dictionary, latent);
  const double norm = dictionary.atoms()[latent].norm().item<double>() * typical_maximum;
  if (!(norm > 0) || !std::isfinite(norm))
    fail("latent {} never fired on the text it was described on, so it has no typical strength; choose one that fires", latent);
  return {norm, "what the latent adds where it fires strongly (99th percentile of its activations)"};
}

SteeringUnit unit_of_prompt(const LanguageModel& model, const std::string& site, const std::string& prompt) {
  const torch::NoGradGuard no_autograd;
  find_site(*model.network, site);
  const torch::Tensor ids = prompt_ids(model, prompt);
  RecordSite visitor(site, true);
  model.network->forward({ids, {}}, visitor);
  const torch::Tensor norms = visitor.value()[0].norm(2, -1);
  if (norms.size(0) < 2) fail_usage("--prompt: is empty; steering needs at least one token to begin with");
  return {norms.narrow(0, 1, norms.size(0) - 1).mean().item<double>(), "the mean norm of the prompt's activations at the site"};
}

Json steer(const Dictionary& dictionary, const LanguageModel& model, const SteeringOptions& options) {
  check_latent(dictionary, options.latent);
  std::vector<Intervention> interventions;
  for (const double strength : options.strengths) {
    if (!std::isfinite(strength * options.unit.norm)) fail_usage("--strength {}: give a finite number", strength);
    interventions.emplace_back(options.site, "", dictionary);
    interventions.back().edits = {Edit::add(options.latent, strength, options.unit.norm)};
  }
  Json moved = move_prediction(dictionary, model, options.site, options.prompt, options.generate, interventions);
  Json result{{"latent", options.latent},          {"site", options.site},
              {"prompt", options.prompt},          {"unit", options.unit.norm},
              {"unit_meaning", options.unit.meaning}, {"seed", options.generate.seed},
              {"before", moved["before"]}, {"steered", moved["after"]}};
  for (size_t i = 0; i < options.strengths.size(); ++i) {
    result["steered"][i]["strength"] = options.strengths[i];
    result["steered"][i]["norm"] = options.strengths[i] * options.unit.norm;
  }
  return result;
}

Json intervene(const Dictionary& dictionary, const LanguageModel& model, const Intervention& intervention, const std::string& prompt,
               const GenerateOptions& generate) {
  Json moved = move_prediction(dictionary, model, intervention.site, prompt, generate, {intervention});
  Json result{{"intervention", intervention.to_json()}, {"edits", Json::array()},      {"site", intervention.site},
              {"prompt", prompt},                       {"seed", generate.seed},       {"before", moved["before"]}};
  for (const Edit& edit : intervention.edits) result["edits"].push_back(to_string(edit));
  result.update(moved["after"][0]);
  return result;
}

}  // namespace sememe
