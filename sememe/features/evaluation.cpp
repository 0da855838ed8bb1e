#include "sememe/features/evaluation.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/features/architectures.h"
#include "sememe/features/capture.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

constexpr double kDenseDensity = 0.1;
constexpr double kFirstBin = -6.0, kBinWidth = 0.25;
constexpr int64_t kBins = 24;

/// Sums over predicted tokens.
struct Prediction {
  double cross_entropy = 0.0, kl = 0.0;
  int64_t tokens = 0;

  /// @param log_probabilities [batch, length, vocabulary]
  void add(const torch::Tensor& log_probabilities, const torch::Tensor& targets) {
    const torch::Tensor mask = targets >= 0;
    const torch::Tensor picked = log_probabilities.gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1);
    cross_entropy -= picked.masked_select(mask).sum(torch::kDouble).item<double>();
    tokens += mask.sum().item<int64_t>();
  }
  void add_kl(const torch::Tensor& clean, const torch::Tensor& changed, const torch::Tensor& targets) {
    kl += (clean.exp() * (clean - changed)).sum(-1).masked_select(targets >= 0).sum(torch::kDouble).item<double>();
  }
  double mean() const { return cross_entropy / static_cast<double>(tokens); }
  double mean_kl() const { return kl / static_cast<double>(tokens); }
};

/// One way of selecting, with all that is measured of it.
struct Selection {
  ReconstructionFigures figures;
  Prediction prediction;
};

class Evaluation {
 public:
  Evaluation(const Dictionary& dictionary, const LanguageModel& model, const EvaluationOptions& options)
      : dictionary_(dictionary),
        network_(*model.network),
        options_(options),
        with_gradients_(find_architecture(dictionary.architecture()).needs_gradients),
        plain_{ReconstructionFigures(dictionary.size(), dictionary.width()), {}},
        gradient_{ReconstructionFigures(dictionary.size(), dictionary.width()), {}} {}

  void add(const TokenBatch& batch) {
    const torch::Tensor tokens = batch.tokens.to(options_.device), targets = batch.targets.to(options_.device);
    const torch::Tensor valid = batch.valid.to(options_.device);
    SiteActivations seen;
    if (with_gradients_) seen = differentiate_at(network_, options_.site, batch, {});
    const torch::NoGradGuard no_autograd;
    if (!with_gradients_) {
      RecordSite visitor(options_.site, false);
      seen.logits = network_.forward({tokens, {}}, visitor);
      seen.activations = visitor.value();
    }
    const torch::Tensor clean = torch::log_softmax(seen.logits, -1);
    clean_.add(clean, targets);
    zero_.add(replaced(tokens, torch::zeros({dictionary_.width()}, options_.device), valid), targets);
    const torch::Tensor x = seen.activations.index({valid}).to(torch::kCPU, torch::kFloat);
    splice(plain_, dictionary_.encode(x), x, tokens, targets, valid, clean);
    if (!with_gradients_) return;
    const torch::Tensor gradients = seen.gradients.index({valid}).to(torch::kCPU, torch::kFloat);
    splice(gradient_, dictionary_.encode(x, gradients), x, tokens, targets, valid, clean);
  }

  /// Second pass, once the mean is known.
  void add_mean(const TokenBatch& batch) {
    const torch::NoGradGuard no_autograd;
    mean_.add(replaced(batch.tokens.to(options_.device), plain_.figures.mean().to(options_.device, torch::kFloat),
                       batch.valid.to(options_.device)),
              batch.targets.to(options_.device));
  }

  Json result() const {
    Json json;
    json["tokens"] = plain_.figures.rows();
    json["ce_clean"] = clean_.mean();
    json["ce_zero"] = zero_.mean();
    json["ce_mean"] = mean_.mean();
    json["architecture"] = dictionary_.architecture();
    json["latents"] = dictionary_.size();
    json["site"] = options_.site;
    report(plain_, "", json);
    if (with_gradients_) report(gradient_, "_gradient", json);
    for (const auto& [key, value] : json.items())
      if (value.is_number_float() && !std::isfinite(value.get<double>()))
        fail("{} came out as {}; are the weights of the model or the dictionary damaged?", key, value.get<double>());
    return json;
  }

 private:
  torch::Tensor replaced(const torch::Tensor& tokens, const torch::Tensor& replacement, const torch::Tensor& valid) const {
    ReplaceSite visitor(options_.site, replacement, valid);
    return torch::log_softmax(network_.forward({tokens, {}}, visitor), -1);
  }

  void splice(Selection& selection, const SparseCodes& codes, const torch::Tensor& x, const torch::Tensor& tokens,
              const torch::Tensor& targets, const torch::Tensor& valid, const torch::Tensor& clean) const {
    const torch::Tensor reconstruction = dictionary_.decode(codes);
    selection.figures.add(x, codes, reconstruction);
    torch::Tensor everywhere = torch::zeros({tokens.size(0), tokens.size(1), dictionary_.width()}, options_.device);
    everywhere.index_put_({valid}, reconstruction.to(options_.device));
    const torch::Tensor changed = replaced(tokens, everywhere, valid);
    selection.prediction.add(changed, targets);
    selection.prediction.add_kl(clean, changed, targets);
  }

  void report(const Selection& selection, const std::string& suffix, Json& json) const {
    const double fvu = selection.figures.fvu(), dictionary = selection.prediction.mean();
    json["l0" + suffix] = selection.figures.l0();
    json["fvu" + suffix] = fvu;
    json["explained_variance" + suffix] = 1.0 - fvu;
    json["dead" + suffix] = selection.figures.dead();
    json["dense" + suffix] = selection.figures.dense();
    json["density_histogram" + suffix] = {
        {"first_log10", kFirstBin}, {"bin_width", kBinWidth}, {"latents", selection.figures.density_histogram()}};
    json["ce_dictionary" + suffix] = dictionary;
    json["ce_recovered" + suffix] = (zero_.mean() - dictionary) / (zero_.mean() - clean_.mean());
    json["ce_recovered_mean" + suffix] = (mean_.mean() - dictionary) / (mean_.mean() - clean_.mean());
    json["kl" + suffix] = selection.prediction.mean_kl();
  }

  const Dictionary& dictionary_;
  Network& network_;
  const EvaluationOptions& options_;
  bool with_gradients_;
  Selection plain_, gradient_;
  Prediction clean_, zero_, mean_;
};

}  // namespace

ReconstructionFigures::ReconstructionFigures(int64_t latents, int64_t width)
    : sum_(torch::zeros({width}, torch::kDouble)), firings_(torch::zeros({latents}, torch::kLong)) {}

void ReconstructionFigures::add(const torch::Tensor& x, const SparseCodes& codes, const torch::Tensor& reconstruction) {
  if (x.size(0) == 0) return;
  const torch::Tensor rows = x.to(torch::kDouble);
  if (!origin_.defined()) origin_ = rows[0].clone();
  rows_ += x.size(0);
  entries_ += codes.atoms.size(0);
  sum_ += rows.sum(0);
  squares_ += (rows - origin_).square().sum().item<double>();
  errors_ += (rows - reconstruction.to(torch::kDouble)).square().sum().item<double>();
  firings_ += torch::bincount(codes.atoms, {}, firings_.size(0));
}

double ReconstructionFigures::fvu() const {
  const double n = static_cast<double>(rows_);
  return errors_ / (squares_ - n * (mean() - origin_).square().sum().item<double>());
}

int64_t ReconstructionFigures::dead() const { return (firings_ == 0).sum().item<int64_t>(); }

int64_t ReconstructionFigures::dense() const {
  return (firings_.to(torch::kDouble) > kDenseDensity * static_cast<double>(rows_)).sum().item<int64_t>();
}

std::vector<int64_t> ReconstructionFigures::density_histogram() const {
  std::vector<int64_t> bins(kBins, 0);
  const int64_t* const firings = firings_.data_ptr<int64_t>();
  for (int64_t i = 0; i < firings_.size(0); ++i) {
    if (firings[i] == 0) continue;
    const double place = (std::log10(static_cast<double>(firings[i]) / static_cast<double>(rows_)) - kFirstBin) / kBinWidth;
    ++bins[std::clamp<int64_t>(static_cast<int64_t>(std::floor(place)), 0, kBins - 1)];
  }
  return bins;
}

Json evaluate_dictionary(const Dictionary& dictionary, const LanguageModel& model, const std::filesystem::path& text,
                         const EvaluationOptions& options) {
  const Site& site = find_site(*model.network, options.site);
  if (site.width != dictionary.width())
    fail("the dictionary takes rows of width {}, but site \"{}\" of {} has width {}; was it learnt there?", dictionary.width(),
         site.name, model.folder.string(), site.width);
  if (options.tokens < 1) fail_usage("--tokens {}: give at least 1", options.tokens);
  TokenContexts contexts = open_contexts(model, text, options.batch_tokens);
  Evaluation evaluation(dictionary, model, options);
  std::vector<TokenBatch> batches;  // kept for the second pass: tokens are small
  int64_t tokens = 0;
  Progress progress("evaluate " + dictionary.architecture(), options.tokens, "tokens");
  const auto check_stop = [] {
    if (interrupted()) throw Interrupted("interrupted while evaluating; nothing was written");
  };
  while (tokens < options.tokens) {
    std::optional<TokenBatch> batch = contexts.next();
    if (!batch) break;
    evaluation.add(*batch);
    tokens += batch->valid_tokens;
    progress.update(tokens);
    batches.push_back(std::move(*batch));
    check_stop();
  }
  if (tokens == 0) fail("{}: gave no tokens; is it empty?", text.string());
  for (const TokenBatch& batch : batches) {
    evaluation.add_mean(batch);
    check_stop();
  }
  return evaluation.result();
}

}  // namespace sememe
