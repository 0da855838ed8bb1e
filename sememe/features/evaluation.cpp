#include "sememe/features/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/features/architectures.h"
#include "sememe/features/bootstrap.h"
#include "sememe/features/capture.h"
#include "sememe/features/site_visitors.h"

namespace sememe {
namespace {

constexpr double kDenseDensity = 0.1;
constexpr double kFirstBin = -6.0, kBinWidth = 0.25;
constexpr int64_t kBins = 24;

constexpr double kPercents[] = {1, 5, 25, 50, 75, 95, 99};

/// Appends the sums over each context, [contexts], to those of earlier batches.
void append(std::vector<double>& sums, const torch::Tensor& of_contexts) {
  const torch::Tensor values = of_contexts.to(torch::kCPU, torch::kDouble).contiguous();
  sums.insert(sums.end(), values.data_ptr<double>(), values.data_ptr<double>() + values.numel());
}

double total(const std::vector<double>& sums) { return std::accumulate(sums.begin(), sums.end(), 0.0); }

/// How the model predicts with something at the site, summed over each context.
struct Prediction {
  std::vector<double> cross_entropy, kl;

  /// @param log_probabilities [batch, length, vocabulary]
  void add(const torch::Tensor& log_probabilities, const torch::Tensor& targets) {
    const torch::Tensor picked = log_probabilities.gather(-1, targets.clamp_min(0).unsqueeze(-1)).squeeze(-1);
    append(cross_entropy, -torch::where(targets >= 0, picked, 0.0).sum(1, false, torch::kDouble));
  }
  /// With its divergence from the clean run.
  void add(const torch::Tensor& log_probabilities, const torch::Tensor& targets, const torch::Tensor& clean) {
    add(log_probabilities, targets);
    const torch::Tensor divergence = (clean.exp() * (clean - log_probabilities)).sum(-1);
    append(kl, torch::where(targets >= 0, divergence, 0.0).sum(1, false, torch::kDouble));
  }
};

/// One way of selecting, with all that is measured of it.
struct Selection {
  ReconstructionFigures figures;
  Prediction prediction;
  std::vector<double> errors;  // ||x - x^||^2 summed over each context
};

/// The mean row of a text at a site, over the rows that may be replaced.
class MeanAtSite {
 public:
  MeanAtSite(Network& network, std::string site) : network_(network), site_(std::move(site)) {}

  void add(const TokenBatch& batch, torch::Device device) {
    const torch::NoGradGuard no_autograd;
    RecordSite visitor(site_, true);
    network_.forward({batch.tokens.to(device), {}}, visitor);
    const torch::Tensor sum = visitor.value().index({batch.valid.to(device)}).sum(0, false, torch::kDouble).to(torch::kCPU);
    sum_ = sum_.defined() ? sum_ + sum : sum;
    rows_ += batch.valid_tokens;
  }
  torch::Tensor value() const { return sum_ / static_cast<double>(rows_); }  // [width] float64

 private:
  Network& network_;
  std::string site_;
  torch::Tensor sum_;
  int64_t rows_ = 0;
};

class Evaluation {
 public:
  /// @param written the sites, joined, whose columns the dictionary reconstructs
  /// @param mean    [columns] float64, of the whole set there
  Evaluation(const Dictionary& dictionary, const LanguageModel& model, const EvaluationOptions& options, std::string written,
             torch::Tensor mean)
      : dictionary_(dictionary),
        network_(*model.network),
        options_(options),
        written_(std::move(written)),
        columns_(dictionary.written()),
        set_mean_(std::move(mean)),
        with_gradients_(find_architecture(dictionary.architecture()).needs_gradients),
        plain_{ReconstructionFigures(dictionary.size(), columns_.count), {}, {}},
        gradient_{ReconstructionFigures(dictionary.size(), columns_.count), {}, {}} {}

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
    append(predicted_, (batch.targets >= 0).sum(1));
    clean_.add(clean, targets);
    zero_.add(replaced(tokens, torch::zeros({columns_.count}, options_.device), valid), targets, clean);
    mean_.add(replaced(tokens, set_mean_.to(options_.device, torch::kFloat), valid), targets, clean);
    const torch::Tensor x = seen.activations.index({valid}).to(torch::kFloat);
    append(squares_, of_contexts((columns(x).to(torch::kDouble) - set_mean_.to(options_.device)).square().sum(1), valid));
    splice(plain_, dictionary_.encode(x), x, tokens, targets, valid, clean);
    if (!with_gradients_) return;
    const torch::Tensor gradients = seen.gradients.index({valid}).to(torch::kFloat);
    splice(gradient_, dictionary_.encode(x, gradients), x, tokens, targets, valid, clean);
  }

  Json result() const {
    Json json;
    json["tokens"] = plain_.figures.rows();
    json["contexts"] = predicted_.size();
    json["ce_clean"] = per_token(clean_.cross_entropy);
    json["ce_zero"] = per_token(zero_.cross_entropy);
    json["ce_mean"] = per_token(mean_.cross_entropy);
    json["kl_zero"] = per_token(zero_.kl);
    json["kl_mean"] = per_token(mean_.kl);
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
  /// Sums of values of the valid rows, [rows] float64 in the order of the batch, over each of its contexts.
  static torch::Tensor of_contexts(const torch::Tensor& values, const torch::Tensor& valid) {
    return torch::zeros({valid.size(0)}, values.options()).index_add(0, valid.nonzero().select(1, 0), values);
  }

  double per_token(const std::vector<double>& sums) const { return total(sums) / total(predicted_); }

  torch::Tensor replaced(const torch::Tensor& tokens, const torch::Tensor& replacement, const torch::Tensor& valid) const {
    ReplaceSite visitor(written_, replacement, valid);
    return torch::log_softmax(network_.forward({tokens, {}}, visitor), -1);
  }

  torch::Tensor columns(const torch::Tensor& rows) const { return rows.narrow(1, columns_.begin, columns_.count); }

  void splice(Selection& selection, const SparseCodes& codes, const torch::Tensor& rows, const torch::Tensor& tokens,
              const torch::Tensor& targets, const torch::Tensor& valid, const torch::Tensor& clean) const {
    const torch::Tensor reconstruction = columns(dictionary_.decode(codes)).to(options_.device), x = columns(rows);
    selection.figures.add(x, codes, reconstruction);
    append(selection.errors, of_contexts((x.to(torch::kDouble) - reconstruction).square().sum(1), valid));
    torch::Tensor everywhere = torch::zeros({tokens.size(0), tokens.size(1), columns_.count}, options_.device);
    everywhere.index_put_({valid}, reconstruction);
    selection.prediction.add(replaced(tokens, everywhere, valid), targets, clean);
  }

  void report(const Selection& selection, const std::string& suffix, Json& json) const {
    const ReconstructionFigures& figures = selection.figures;
    const double clean = json.at("ce_clean").get<double>(), zero = json.at("ce_zero").get<double>(), mean = json.at("ce_mean").get<double>();
    const double kl_zero = json.at("kl_zero").get<double>(), kl_mean = json.at("kl_mean").get<double>();
    const double fvu = figures.fvu(), dictionary = per_token(selection.prediction.cross_entropy), kl = per_token(selection.prediction.kl);
    json["l0" + suffix] = figures.l0();
    json["fvu" + suffix] = fvu;
    json["explained_variance" + suffix] = 1.0 - fvu;
    json["nmse" + suffix] = figures.nmse();
    json["cosine" + suffix] = figures.cosine();
    json["l2_ratio" + suffix] = figures.l2_ratio();
    const std::optional<double> bias = figures.relative_bias();
    json["relative_bias" + suffix] = bias ? Json(*bias) : Json();
    json["dead" + suffix] = figures.dead();
    json["dense" + suffix] = figures.dense();
    json["density_histogram" + suffix] = {
        {"first_log10", kFirstBin}, {"bin_width", kBinWidth}, {"latents", figures.density_histogram()}};
    const std::vector<double> percentiles = figures.density_percentiles(kPercents);
    for (size_t i = 0; i < percentiles.size(); ++i) json["density_percentiles" + suffix][fmt::format("{}", kPercents[i])] = percentiles[i];
    json["ce_dictionary" + suffix] = dictionary;
    json["delta_ce" + suffix] = dictionary - clean;
    json["ce_recovered" + suffix] = (zero - dictionary) / (zero - clean);
    json["ce_recovered_mean" + suffix] = (mean - dictionary) / (mean - clean);
    json["kl" + suffix] = kl;
    json["kl_score" + suffix] = (kl_zero - kl) / kl_zero;
    json["kl_score_mean" + suffix] = (kl_mean - kl) / kl_mean;
    report_intervals(selection, suffix, json);
  }

  void report_intervals(const Selection& selection, const std::string& suffix, Json& json) const {
    enum Term { kPredicted, kClean, kZero, kMean, kDictionary, kKl, kErrors, kSquares };
    std::vector<std::vector<double>> sums;
    for (size_t i = 0; i < predicted_.size(); ++i)
      sums.push_back({predicted_[i], clean_.cross_entropy[i], zero_.cross_entropy[i], mean_.cross_entropy[i],
                      selection.prediction.cross_entropy[i], selection.prediction.kl[i], selection.errors[i], squares_[i]});
    const auto figures = [](std::span<const double> sum) {
      return std::vector<double>{(sum[kZero] - sum[kDictionary]) / (sum[kZero] - sum[kClean]),
                                 (sum[kMean] - sum[kDictionary]) / (sum[kMean] - sum[kClean]), sum[kKl] / sum[kPredicted],
                                 sum[kErrors] / sum[kSquares]};
    };
    const char* const names[] = {"ce_recovered", "ce_recovered_mean", "kl", "fvu"};
    const std::vector<std::optional<Interval>> intervals = bootstrap_intervals(sums, figures, options_.seed);
    for (size_t i = 0; i < intervals.size(); ++i) {
      if (!intervals[i]) continue;
      json[names[i] + suffix + "_low"] = intervals[i]->low;
      json[names[i] + suffix + "_high"] = intervals[i]->high;
    }
  }

  const Dictionary& dictionary_;
  Network& network_;
  const EvaluationOptions& options_;
  std::string written_;
  Columns columns_;
  torch::Tensor set_mean_;
  bool with_gradients_;
  Selection plain_, gradient_;
  Prediction clean_, zero_, mean_;
  std::vector<double> predicted_, squares_;  // targets, and ||x - mean||^2, of each context
};

}  // namespace

ReconstructionFigures::ReconstructionFigures(int64_t latents, int64_t width)
    : sum_(torch::zeros({width}, torch::kDouble)), firings_(torch::zeros({latents}, torch::kLong)) {}

void ReconstructionFigures::add(const torch::Tensor& x, const SparseCodes& codes, const torch::Tensor& reconstruction) {
  if (x.size(0) == 0) return;
  const torch::Tensor rows = x.to(torch::kDouble);
  if (!origin_.defined()) origin_ = rows[0].clone().cpu();
  rows_ += x.size(0);
  entries_ += codes.atoms.size(0);
  sum_ += rows.sum(0).cpu();
  squares_ += (rows - origin_.to(rows.device())).square().sum().item<double>();
  firings_ += torch::bincount(codes.atoms, {}, firings_.size(0)).cpu();
  const torch::Tensor rebuilt = reconstruction.to(torch::kDouble), errors = (rows - rebuilt).square().sum(1);
  const torch::Tensor norms = rows.norm(2, {1}), rebuilt_norms = rebuilt.norm(2, {1}), products = (rows * rebuilt).sum(1);
  errors_ += errors.sum().item<double>();
  reconstruction_squares_ += rebuilt_norms.square().sum().item<double>();
  products_ += products.sum().item<double>();
  // What is divided by zero is 0 / 0, except that a row of zeros may have an error: such rows are in no mean.
  const auto sum_where = [](const torch::Tensor& where, const torch::Tensor& values) {
    return torch::where(where, values, 0.0).sum().item<double>();
  };
  const torch::Tensor nonzero = norms > 0;
  nonzero_rows_ += nonzero.sum().item<int64_t>();
  relative_errors_ += sum_where(nonzero, errors / norms.square());
  norm_ratios_ += sum_where(nonzero, rebuilt_norms / norms);
  cosines_ += sum_where(nonzero & (rebuilt_norms > 0), products / (norms * rebuilt_norms));
}

double ReconstructionFigures::fvu() const {
  const double n = static_cast<double>(rows_);
  return errors_ / (squares_ - n * (mean() - origin_).square().sum().item<double>());
}

std::optional<double> ReconstructionFigures::relative_bias() const {
  if (products_ == 0) return std::nullopt;
  return reconstruction_squares_ / products_;
}

std::vector<double> ReconstructionFigures::density_percentiles(std::span<const double> percents) const {
  const torch::Tensor sorted = std::get<0>(firings_.to(torch::kDouble).div(static_cast<double>(rows_)).sort());
  const std::span<const double> ascending(sorted.data_ptr<double>(), static_cast<size_t>(sorted.numel()));
  std::vector<double> values;
  for (const double percent : percents) values.push_back(percentile(ascending, percent));
  return values;
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
  const std::vector<Site> written = written_sites(dictionary, model, options.site);
  std::string names;
  for (const Site& site : written) names += (names.empty() ? "" : "+") + site.name;
  if (options.tokens < 1) fail_usage("--tokens {}: give at least 1", options.tokens);
  TokenContexts contexts = open_contexts(model, text, std::min(options.batch_tokens, model.network->pass_tokens()));
  // Two passes: the mean must be known before anything can be held against it. The first ends at the site.
  MeanAtSite mean(*model.network, names);
  std::vector<TokenBatch> batches;  // kept for the second pass: tokens are small
  int64_t tokens = 0;
  const auto check_stop = [] {
    if (interrupted()) throw Interrupted("interrupted while evaluating; nothing was written");
  };
  while (tokens < options.tokens) {
    std::optional<TokenBatch> batch = contexts.next();
    if (!batch) break;
    mean.add(*batch, options.device);
    tokens += batch->valid_tokens;
    batches.push_back(std::move(*batch));
    check_stop();
  }
  if (tokens == 0) fail("{}: gave no tokens; is it empty?", text.string());
  Evaluation evaluation(dictionary, model, options, names, mean.value());
  Progress progress("evaluate " + dictionary.architecture(), tokens, "tokens");
  int64_t done = 0;
  for (const TokenBatch& batch : batches) {
    evaluation.add(batch);
    progress.update(done += batch.valid_tokens);
    check_stop();
  }
  return evaluation.result();
}

}  // namespace sememe
