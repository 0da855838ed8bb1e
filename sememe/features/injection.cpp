#include "sememe/features/injection.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/features/capture.h"
#include "sememe/features/intervention.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

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

InjectionProbe::InjectionProbe(const LanguageModel& model, std::string site, const TokenBatch& batch, torch::Device device)
    : model_(model), site_(std::move(site)), batch_{batch.tokens.to(device), {}}, valid_(batch.valid.to(device)) {
  const torch::NoGradGuard no_grad;
  find_site(*model.network, site_);
  targets_ = batch.targets.to(device).index({valid_});
  RecordSite record(site_, false);
  clean_ = model.network->forward(batch_, record).log_softmax(-1).index({valid_});
  mean_norm_ = record.value().index({valid_}).norm(2, -1).mean().item<double>();
}

torch::Tensor InjectionProbe::injected(const torch::Tensor& row) const {
  const torch::NoGradGuard no_grad;
  InterveneSite add(site_, row, Passes::kWholeContexts);
  return model_.network->forward(batch_, add).log_softmax(-1).index({valid_});
}

double InjectionProbe::kl(const torch::Tensor& predicted) const {
  return (clean_.exp() * (clean_ - predicted)).sum(-1).mean().item<double>();
}

double InjectionProbe::cross_entropy(const torch::Tensor& predicted) const {
  const torch::Tensor picked = predicted.gather(-1, targets_.clamp_min(0).unsqueeze(-1)).squeeze(-1);
  return -picked.masked_select(targets_ >= 0).mean(torch::kDouble).item<double>();
}

std::optional<double> norm_at_kl(const InjectionProbe& probe, const torch::Tensor& direction, double kl) {
  constexpr int kDoublings = 13, kSteps = 60;
  constexpr double kExact = 1e-3;
  const auto moved = [&](double norm) { return probe.kl(probe.injected(direction * norm)); };
  double low = 0.0, high = probe.mean_norm() / 8.0, low_kl = 0.0, high_kl = moved(high);
  for (int i = 0; !(high_kl >= kl); ++i) {
    if (i == kDoublings) return std::nullopt;
    low = high;
    low_kl = high_kl;
    high *= 2.0;
    high_kl = moved(high);
  }
  for (int i = 0; i < kSteps; ++i) {
    // The kl grows about as a power of the norm, near 0 as its square; a halving now and then ends the search on any curve.
    double middle = 0.5 * (low + high);
    if (i % 3 != 2)
      middle = low_kl > 0 ? low * std::pow(high / low, std::log(kl / low_kl) / std::log(high_kl / low_kl)) : high * std::sqrt(kl / high_kl);
    const double reached = moved(middle);
    if (std::abs(reached - kl) <= kExact * kl) return middle;
    if (reached < kl) {
      low = middle;
      low_kl = reached;
    } else {
      high = middle;
      high_kl = reached;
    }
  }
  return high;
}

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
  const InjectionProbe probe(model, options.site, *read, options.device);
  InjectionEffect effect;
  effect.norm = options.norm > 0 ? options.norm : 0.5 * probe.mean_norm();
  effect.latents = draw(candidates, options.latents, options.seed);
  const torch::Tensor atoms = torch::nn::functional::normalize(dictionary.atoms()).to(options.device) * effect.norm;
  Progress progress("inject", static_cast<int64_t>(effect.latents.size()), "latents");
  for (const int64_t latent : effect.latents) {
    effect.kl.push_back(probe.kl(probe.injected(atoms[latent])));
    progress.update(static_cast<int64_t>(effect.kl.size()));
    if (interrupted()) throw Interrupted("stopped while injecting latents; nothing was written");
  }
  return effect;
}

}  // namespace sememe
