#include "sememe/features/injection.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/features/capture.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

/// Adds one row to every row that is marked.
class AddAtSite : public SiteVisitor {
 public:
  AddAtSite(std::string site, torch::Tensor row, torch::Tensor where)
      : site_(std::move(site)), addition_(where.unsqueeze(-1) * row) {}
  torch::Tensor visit(const Site& site, torch::Tensor value) override {
    return site.name == site_ ? value + addition_ : value;
  }

 private:
  std::string site_;
  torch::Tensor addition_;  // [batch, length, width]
};

std::vector<int64_t> draw(const std::vector<int64_t>& candidates, int64_t count, uint64_t seed) {
  RandomStream stream(seed, "injection/latents");
  std::vector<int64_t> drawn;
  for (const int64_t i : permutation(static_cast<int64_t>(candidates.size()), stream)) {
    if (static_cast<int64_t>(drawn.size()) == count) break;
    drawn.push_back(candidates[i]);
  }
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

}  // namespace

double InjectionEffect::median() const {
  std::vector<double> sorted = kl;
  std::sort(sorted.begin(), sorted.end());
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : 0.5 * (sorted[middle - 1] + sorted[middle]);
}

InjectionEffect injection_effect(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                                 const std::vector<int64_t>& candidates, const InjectionOptions& options) {
  const torch::NoGradGuard no_grad;
  if (candidates.empty()) fail("no latent of the dictionary fires, so none can be injected");
  if (const Site& site = find_site(*model.network, options.site); site.width != dictionary.width())
    fail("the dictionary's width is {}, the site {} has {}", dictionary.width(), site.name, site.width);
  const std::optional<TokenBatch> read = open_contexts(model, text, options.tokens).next();
  if (!read) fail("{}: holds no tokens", text.string());
  const Batch batch{read->tokens.to(options.device), {}};
  const torch::Tensor valid = read->valid.to(options.device);

  RecordSite record(options.site, false);
  const torch::Tensor clean = model.network->forward(batch, record).log_softmax(-1).index({valid});
  InjectionEffect effect;
  effect.norm = options.norm > 0 ? options.norm : 0.5 * record.value().index({valid}).norm(2, -1).mean().item<double>();
  effect.latents = draw(candidates, options.latents, options.seed);
  const torch::Tensor atoms = torch::nn::functional::normalize(dictionary.atoms()).to(options.device) * effect.norm;
  Progress progress("inject", static_cast<int64_t>(effect.latents.size()), "latents");
  for (const int64_t latent : effect.latents) {
    AddAtSite add(options.site, atoms[latent], valid);
    const torch::Tensor injected = model.network->forward(batch, add).log_softmax(-1).index({valid});
    effect.kl.push_back((clean.exp() * (clean - injected)).sum(-1).mean().item<double>());
    progress.update(static_cast<int64_t>(effect.kl.size()));
    if (interrupted()) throw Interrupted("stopped while injecting latents; nothing was written");
  }
  return effect;
}

}  // namespace sememe
