#include "studies/snmf.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/data/byte_stream.h"
#include "sememe/features/bootstrap.h"
#include "sememe/features/semi_nmf.h"
#include "studies/snmf/baselines.h"
#include "studies/snmf/detection.h"
#include "studies/snmf/glosses.h"
#include "studies/snmf/planted.h"
#include "studies/snmf/reading.h"
#include "studies/snmf/steering.h"

namespace sememe {
namespace snmf {
namespace {

namespace fs = std::filesystem;

// Features are made of hidden units; what is compared with them acts on the output of the same layer, as in the paper.
constexpr const char* kHidden = "blocks.2.mlp.act";
constexpr const char* kOutput = "blocks.2.mlp";
constexpr double kKept = 0.02;  // p: 16 of 768 units

struct Plan {
  int64_t seeds;       // of the sentences, the factorisations, the TopK dictionary and the samples
  int64_t fitted;      // sentences of a concept
  int64_t features;    // k
  int64_t iterations;
  SamplePlan steering;
  TopKPlan topk;
  std::vector<int64_t> grid_features;  // k and p of further factorisations
  std::vector<double> grid_kept;
  int64_t layers;      // that are factorised, too
};

Plan plan_of(bool full) {
  if (full) return {3, 75, 100, 1000, {8, 50}, {1'500'000, 5'000'000}, {50, 100, 200}, {0.01, 0.05, 0.1, 1.0}, 4};
  return {1, 40, 50, 300, {8, 30}, {200'000, 400'000}, {}, {}, 0};
}

torch::Tensor unit(const torch::Tensor& row) { return row / row.norm().clamp_min(1e-12); }

enum Method { kSnmf, kTopK, kDiffMean, kRandom, kNumMethods };
constexpr std::array kMethodNames = {"snmf", "topk", "diffmean", "random"};

/// What is measured with one seed.
struct Figures {
  double purity = 0.0, chance = 0.0;
  double detection = 0.0, detection_random = 0.0;                // shares of features with S_CD > 0
  std::array<std::vector<double>, kNumMethods> steering;         // final score of each concept
  int64_t reachable = 0, landed = 0;
  Json details = Json::object();
};

class Run {
 public:
  Run(const StudyOptions& options, const Plan& plan, uint64_t seed)
      : options_(options),
        plan_(plan),
        seed_(seed),
        folder_(options.work / "snmf" / (options.full ? "full" : "quick")),
        split_(split_glosses(wordnet(options), training_text(options), plan_.fitted, seed)),
        hidden_(tokens_of(split_.fitted, kHidden)),
        output_(tokens_of(split_.fitted, kOutput)),
        heldout_hidden_(tokens_of(split_.heldout, kHidden)) {
    fs::create_directories(folder_);
    figures_.details["seed"] = seed;
    figures_.details["data"] = {{"concepts", kConcepts},
                                {"fitted_sentences", split_.fitted.texts.size()},
                                {"fitted_tokens", hidden_.tokens()},
                                {"judged_sentences", split_.judged.texts.size()},
                                {"heldout_sentences", split_.heldout.texts.size()},
                                {"site", kHidden},
                                {"width", hidden_.activations.size(1)}};
  }

  void study_monotone(StudyResult& result) const {
    note("all units kept: does the loss ever rise?");
    const SemiNmf found = semi_nmf(hidden_.activations, {.features = plan_.features, .kept = 1.0, .iterations = plan_.iterations,
                                                         .patience = plan_.iterations, .seed = seed_});
    double rise = -INFINITY;
    for (size_t i = 1; i < found.losses.size(); ++i) rise = std::max(rise, found.losses[i] / found.losses[i - 1] - 1.0);
    result.claim("monotone", fmt::format("largest relative rise of the loss in {} iterations, p = 1", found.losses.size()), rise,
                 std::nullopt, "<= 1e-6", rise <= 1e-6);
    result.details["all_units"] = {{"unexplained", unexplained(found, hidden_)}, {"losses", found.losses}};
  }

  /// Other k and p, and other layers, with purity and detection of each.
  void study_grid(StudyResult& result) const {
    result.details["grid"] = Json::array();
    for (const int64_t features : plan_.grid_features)
      for (const double kept : plan_.grid_kept) result.details["grid"].push_back(cell(hidden_, heldout_hidden_, features, kept));
    result.details["layers"] = Json::array();
    for (int64_t layer = 0; layer < plan_.layers; ++layer) {
      const std::string site = fmt::format("blocks.{}.mlp.act", layer);
      Json found = cell(tokens_of(split_.fitted, site), tokens_of(split_.heldout, site), plan_.features, kKept);
      found["site"] = site;
      result.details["layers"].push_back(std::move(found));
    }
  }

  Figures measure() {
    factorise();
    measure_purity();
    measure_detection();
    measure_steering();
    return std::move(figures_);
  }

 private:
  /// Three beginnings; the factors of least loss are studied.
  void factorise() {
    Json beginnings = Json::array();
    double least = INFINITY;
    for (const char* const beginning : {"random", "svd", "kmeans"}) {
      note(fmt::format("factorising {} tokens, beginning {}", hidden_.tokens(), beginning));
      SemiNmf found = semi_nmf(hidden_.activations, {.features = plan_.features, .kept = kKept, .beginning = beginning,
                                                     .iterations = plan_.iterations, .seed = seed_});
      const std::vector<Reading> readings = read_features(found.coefficients, hidden_);
      beginnings.push_back({{"beginning", beginning}, {"unexplained", unexplained(found, hidden_)}, {"iterations", found.losses.size()},
                            {"best", found.best + 1}, {"reseeded", found.reseeded}, {"purity", mean_purity(readings)},
                            {"first_loss", found.losses[0]}, {"least_loss", found.losses[found.best]}});
      if (found.losses[found.best] < least) least = found.losses[found.best], factors_ = std::move(found);
    }
    readings_ = read_features(factors_.coefficients, hidden_);
    figures_.details["beginnings"] = std::move(beginnings);
  }

  void measure_purity() {
    figures_.chance = chance_purity(hidden_.labels, kNumConcepts, seed_, kLeading);
    figures_.purity = mean_purity(readings_);
    const double of_random = mean_purity(read_features(cosines_with(hidden_.activations, random_directions()), hidden_));
    Json features = Json::array();
    for (size_t i = 0; i < readings_.size(); ++i)
      features.push_back({{"feature", i}, {"concept", readings_[i].label < 0 ? Json() : Json(kConcepts[readings_[i].label])},
                          {"purity", readings_[i].purity}, {"leading", leading_tokens(static_cast<int64_t>(i))}});
    figures_.details["purity"] = {{"mean", figures_.purity}, {"chance", figures_.chance}, {"random_directions", of_random},
                                  {"features", features}};
  }

  void measure_detection() {
    const Detection ours = detect(factors_.features, labels_of(readings_), heldout_hidden_, seed_);
    const torch::Tensor directions = random_directions();
    const Detection same = detect(directions, labels_of(read_features(cosines_with(hidden_.activations, directions), hidden_)),
                                  heldout_hidden_, seed_);
    RandomStream stream(seed_, "snmf/any-concept");
    std::vector<int64_t> any;
    for (int64_t i = 0; i < directions.size(0); ++i) any.push_back(static_cast<int64_t>(stream.below(kNumConcepts)));
    const Detection of_any = detect(directions, any, heldout_hidden_, seed_);
    figures_.detection = ours.positive();
    figures_.detection_random = same.positive();
    figures_.details["detection"] = {
        {"snmf", ours.json()}, {"random_directions", same.json()}, {"random_directions_any_concept", of_any.json()}};
  }

  void measure_steering() {
    const auto topk = train_top_k(model_, kOutput, training_text(options_), folder_, plan_.topk, seed_);
    const std::vector<Reading> latents = read_features(dense_codes(*topk, output_), output_);
    const torch::Tensor atoms = topk->atoms(), random = random_directions();
    Steering steering(model_, {kHidden, kOutput}, plan_.steering, split_.judged, seed_);
    std::array<double, kNumMethods> crossed{};  // means over concepts
    Json cells = Json::array();
    Progress progress("steer", kNumConcepts, "concepts");
    for (int64_t label = 0; label < kNumConcepts; ++label) {
      const int64_t feature = best_for(readings_, label), latent = best_for(latents, label);
      Json cell = {{"concept", kConcepts[label]}, {"feature", feature}, {"feature_share", readings_[feature].shares[label]},
                   {"latent", latent}, {"latent_share", latents[latent].shares[label]}};
      const auto steer = [&](Method method, const char* site, const torch::Tensor& direction) {
        const Steered steered = steering.steer(site, unit(direction), label);
        figures_.steering[method].push_back(steered.score);
        crossed[method] += steered.crossed / static_cast<double>(kNumConcepts);
        cell[kMethodNames[method]] = steered.json();
      };
      steer(kSnmf, kHidden, factors_.features[feature]);
      steer(kTopK, kOutput, atoms[latent]);
      steer(kDiffMean, kOutput, difference_of_means(output_, label));
      steer(kRandom, kHidden, random[label % random.size(0)]);
      cells.push_back(std::move(cell));
      progress.update(label + 1);
    }
    figures_.reachable = steering.reachable();
    figures_.landed = steering.landed();
    Json& details = figures_.details["steering"];
    for (size_t i = 0; i < kNumMethods; ++i)
      details[kMethodNames[i]] = {{"score", mean(figures_.steering[i])}, {"crossed", crossed[i]}};
    details["concepts"] = std::move(cells);
    details["judges"] = steering.judges(split_.fitted);
    figures_.details["bisection"] = {{"asked", steering.asked()}, {"reachable", steering.reachable()}, {"landed", steering.landed()}};
  }

  Json cell(const LabelledTokens& fitted, const LabelledTokens& heldout, int64_t features, double kept) const {
    note(fmt::format("factorising with k = {}, p = {}", features, kept));
    const SemiNmf found = semi_nmf(fitted.activations, {.features = features, .kept = kept, .iterations = 200, .seed = seed_});
    const std::vector<Reading> readings = read_features(found.coefficients, fitted);
    return {{"features", features}, {"kept", kept}, {"unexplained", unexplained(found, fitted)}, {"purity", mean_purity(readings)},
            {"detection", detect(found.features, labels_of(readings), heldout, seed_).json()}};
  }

  static fs::path wordnet(const StudyOptions& options) {
    const fs::path own = options.work / "wordnet";
    return fs::exists(own) ? own : fs::path("/usr/share/wordnet");
  }

  static fs::path training_text(const StudyOptions& options) {
    const fs::path text = options.work / "text" / "train.jsonl.zst";
    if (!fs::exists(text))
      fail("{}: not there; make the text first with sememe model corpus --sources models/corpus.json --out {}", text.string(),
           text.parent_path().string());
    return text;
  }

  LabelledTokens tokens_of(const Sentences& sentences, const std::string& site) const {
    return label_tokens(model_, sentences.texts, sentences.labels, site);
  }

  static double unexplained(const SemiNmf& found, const LabelledTokens& tokens) {
    return found.losses[found.best] / tokens.activations.square().sum(torch::kDouble).item<double>();
  }

  torch::Tensor random_directions() const {
    const int64_t width = hidden_.activations.size(1);
    const auto units = static_cast<int64_t>(std::ceil(kKept * static_cast<double>(width)));
    return random_sparse_directions(plan_.features, width, units, seed_);
  }

  Json leading_tokens(int64_t feature) const {
    const torch::Tensor order = factors_.coefficients.select(1, feature).argsort(0, true);
    Json tokens = Json::array();
    for (int64_t i = 0; i < 10; ++i) {
      std::string token(model_.tokenizer.token(hidden_.ids[order[i].item<int64_t>()]));
      repair_utf8(token);  // a token may end within a character
      tokens.push_back(std::move(token));
    }
    return tokens;
  }

  const StudyOptions& options_;
  const Plan& plan_;
  uint64_t seed_;
  fs::path folder_;
  LanguageModel model_ = LanguageModel::load("models/english");
  Split split_;
  LabelledTokens hidden_, output_, heldout_hidden_;
  SemiNmf factors_;
  std::vector<Reading> readings_;
  Figures figures_;
};

// ---- Claims over all seeds ---------------------------------------------------------------------------------------------------------

template <class Take>
double mean_of(const std::vector<Figures>& seeds, const Take& take) {
  std::vector<double> values;
  for (const Figures& figures : seeds) values.push_back(take(figures));
  return mean(values);
}

/// Of each concept, the mean over seeds: seeds share the concepts, so that concepts are what the bootstrap may draw.
std::vector<double> steering_by_concept(const std::vector<Figures>& seeds, Method method) {
  std::vector<double> scores(kNumConcepts);
  for (int64_t label = 0; label < kNumConcepts; ++label)
    scores[label] = mean_of(seeds, [&](const Figures& figures) { return figures.steering[method][label]; });
  return scores;
}

void claim_all(const std::vector<Figures>& seeds, uint64_t seed, StudyResult& result) {
  const double purity = mean_of(seeds, [](const Figures& figures) { return figures.purity; });
  const double chance = mean_of(seeds, [](const Figures& figures) { return figures.chance; });
  result.claim("purity", "share of the commonest concept among a feature's 25 leading tokens, mean; baseline: 25 tokens drawn at random",
               purity, chance, ">= 2 baseline", purity >= 2 * chance);
  const double detection = mean_of(seeds, [](const Figures& figures) { return figures.detection; });
  result.claim("detection", "share of features with S_CD > 0 on held-out sentences; baseline: random directions read the same way",
               detection, mean_of(seeds, [](const Figures& figures) { return figures.detection_random; }), ">= 0.75", detection >= 0.75);
  std::array<std::vector<double>, kNumMethods> scores;
  std::array<double, kNumMethods> means, p;
  for (size_t i = 0; i < kNumMethods; ++i) {
    scores[i] = steering_by_concept(seeds, static_cast<Method>(i));
    means[i] = mean(scores[i]);
    p[i] = paired_bootstrap_p(scores[kSnmf], scores[i], seed);
  }
  const double here = means[kSnmf];
  result.claim("steering-topk", "final score of steering at equal KL, mean over concepts, against the TopK latent of the same concept",
               here, means[kTopK], ">= 1.2 baseline, p < 0.05", here >= 1.2 * means[kTopK] && p[kTopK] < 0.05);
  result.claim("steering-random", "the same against random sparse directions", here, means[kRandom], "> baseline, p < 0.05",
               here > means[kRandom] && p[kRandom] < 0.05);
  result.claim("steering-diffmean", "the same against the difference of means, which knows the labels", here, means[kDiffMean],
               ">= 0.9 baseline", here >= 0.9 * means[kDiffMean]);
  int64_t reachable = 0, landed = 0;
  for (const Figures& figures : seeds) reachable += figures.reachable, landed += figures.landed;
  const double share = static_cast<double>(landed) / static_cast<double>(std::max<int64_t>(1, reachable));
  result.claim("bisection", "share of reachable KL targets that the search meets within 0.01 nats", share, std::nullopt, ">= 0.9",
               share >= 0.9);
  result.details["steering"] = {{"p_topk", p[kTopK]}, {"p_random", p[kRandom]}, {"p_diffmean", p[kDiffMean]}};
}

}  // namespace
}  // namespace snmf

StudyResult run_snmf(const StudyOptions& options) {
  using namespace snmf;
  const Plan plan = plan_of(options.full);
  StudyResult result;
  result.details = Json::object();
  study_planted(options, result);
  std::vector<Figures> seeds;
  for (int64_t i = 0; i < plan.seeds; ++i) {
    note(fmt::format("seed {} of {}", i + 1, plan.seeds));
    Run run(options, plan, options.seed + i);
    if (i == 0) run.study_monotone(result);
    if (i == 0) run.study_grid(result);
    seeds.push_back(run.measure());
    result.details["seeds"].push_back(seeds.back().details);
  }
  claim_all(seeds, options.seed, result);
  return result;
}

}  // namespace sememe
