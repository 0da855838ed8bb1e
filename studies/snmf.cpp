#include "studies/snmf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/data/byte_stream.h"
#include "sememe/data/corpus.h"
#include "sememe/data/seen_text.h"
#include "sememe/data/wordnet.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/bootstrap.h"
#include "sememe/features/capture.h"
#include "sememe/features/dictionary_training.h"
#include "sememe/features/injection.h"
#include "sememe/features/intervention.h"
#include "sememe/features/labelled_tokens.h"
#include "sememe/features/semi_nmf.h"
#include "sememe/features/similarity.h"
#include "sememe/features/text_judges.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

// Features are made of hidden units; what is compared with them acts on the output of the same layer, as in the paper.
constexpr const char* kHidden = "blocks.2.mlp.act";
constexpr const char* kOutput = "blocks.2.mlp";

// Lexicographer classes that name a subject; what is left out (acts, states, attributes, ...) names a way of speaking.
constexpr std::array kConcepts = {
    "noun.animal",   "noun.artifact",   "noun.body",   "noun.cognition",  "noun.communication", "noun.feeling",  "noun.food",
    "noun.location", "noun.person",     "noun.phenomenon", "noun.plant",  "noun.possession",    "noun.quantity", "noun.shape",
    "noun.substance", "noun.time",      "verb.cognition",  "verb.communication", "verb.contact", "verb.motion"};
constexpr auto kNumConcepts = static_cast<int64_t>(kConcepts.size());

constexpr double kKept = 0.02;           // p: 16 of 768 units
constexpr int64_t kLeading = 25;         // tokens by which a feature is read
constexpr int64_t kSentences = 5;        // activating, and as many neutral ones
constexpr const char* kPrompt = "I think that";
constexpr std::array kTargets = {0.025, 0.05, 0.1, 0.15, 0.25, 0.35, 0.5};  // nats
constexpr double kLanding = 0.01;        // nats off the target
constexpr int64_t kWordList = 20;
constexpr int64_t kJudged = 200;         // sentences of a concept from which the judges learn, none of them fitted
constexpr int64_t kHeldOut = 50;         // sentences of a concept, at most, on which features are detected
constexpr int64_t kUnsteered = 256;      // samples that say what fluent is

struct Plan {
  int64_t seeds;       // of the sentences, the factorisations, the TopK dictionary and the samples
  int64_t fitted;      // sentences of a concept
  int64_t features;    // k
  int64_t iterations;
  int64_t samples, new_tokens;       // of each direction, target and sign
  int64_t captured, trained;         // tokens of the TopK dictionary
  std::vector<int64_t> grid_features;  // k and p of further factorisations
  std::vector<double> grid_kept;
  int64_t layers;                    // that are factorised, too
};

Plan plan_of(bool full) {
  if (full) return {3, 75, 100, 1000, 8, 50, 1'500'000, 5'000'000, {50, 100, 200}, {0.01, 0.05, 0.1, 1.0}, 4};
  return {1, 40, 50, 300, 8, 30, 200'000, 400'000, {}, {}, 0};
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Tokens may end within a character.
std::string shown(std::string text) {
  repair_utf8(text);
  return text;
}

torch::Tensor unit(const torch::Tensor& row) { return row / row.norm().clamp_min(1e-12); }

// ---- Planted features: are the true ones found? ------------------------------------------------------------------------------------

struct Planted {
  torch::Tensor features, rows;  // [10, 200], [2000, 200]
};

/// A = G0 F0 + noise of 5 % RMS; a feature is 10 of 200 units of value N(0,1) moved by 1 away from 0, a coefficient U(0.2, 1.2) with
/// probability 0.2, else 0.
Planted plant(uint64_t seed) {
  constexpr int64_t kFeatures = 10, kUnits = 200, kRows = 2000, kUsed = 10;
  RandomStream stream(seed, "snmf/planted");
  Planted planted{torch::zeros({kFeatures, kUnits}), {}};
  for (int64_t i = 0; i < kFeatures; ++i) {
    const std::vector<int64_t> units = permutation(kUnits, stream);
    for (int64_t j = 0; j < kUsed; ++j) {
      const double value = stream.normal();
      planted.features[i][units[j]] = value + (value < 0 ? -1.0 : 1.0);
    }
  }
  torch::Tensor coefficients = torch::zeros({kRows, kFeatures}), noise = torch::empty({kRows, kUnits});
  float* const coefficient = coefficients.data_ptr<float>();
  for (int64_t i = 0; i < coefficients.numel(); ++i)
    if (stream.uniform() < 0.2) coefficient[i] = static_cast<float>(0.2 + stream.uniform());
  for (int64_t i = 0; i < noise.numel(); ++i) noise.data_ptr<float>()[i] = static_cast<float>(stream.normal());
  planted.rows = torch::mm(coefficients, planted.features);
  planted.rows += 0.05 * planted.rows.square().mean().sqrt() * noise;
  return planted;
}

struct Recovery {
  double cosine = 0.0, overlap = 0.0, unexplained = 0.0;
  bool holds() const { return cosine >= 0.95 && overlap >= 0.9; }
  Json json() const { return {{"cosine", cosine}, {"support_jaccard", overlap}, {"unexplained", unexplained}, {"holds", holds()}}; }
};

Recovery recover(const Planted& planted, double kept, uint64_t seed) {
  const SemiNmf found =
      semi_nmf(planted.rows, {.features = planted.features.size(0), .kept = kept, .iterations = 600, .patience = 600, .seed = seed});
  const MatchedAtoms matched = match_atoms(planted.features, found.features);
  Recovery recovery{matched.mean_cosine, 0.0, found.losses[found.best] / planted.rows.square().sum(torch::kDouble).item<double>()};
  const int64_t features = planted.features.size(0);
  for (int64_t i = 0; i < features; ++i)
    recovery.overlap += support_overlap(planted.features[i], found.features[matched.partners[i]]) / static_cast<double>(features);
  return recovery;
}

void study_planted(const StudyOptions& options, StudyResult& result) {
  constexpr int kSeeds = 5, kRestarts = 3;
  note("planted features: 5 data sets, 3 beginnings each, and the control that keeps all units");
  Json cells = Json::array();
  int64_t hold = 0, best_hold = 0;
  std::vector<double> cosines, control;
  for (int i = 0; i < kSeeds; ++i) {
    const Planted planted = plant(options.seed + i);
    std::vector<Recovery> restarts;
    for (int j = 0; j < kRestarts; ++j) restarts.push_back(recover(planted, 0.05, options.seed + i + 1000 * j));
    const Recovery& best = *std::min_element(restarts.begin(), restarts.end(),
                                             [](const Recovery& a, const Recovery& b) { return a.unexplained < b.unexplained; });
    const Recovery all_units = recover(planted, 1.0, options.seed + i);
    hold += restarts[0].holds();
    best_hold += best.holds();
    cosines.push_back(best.cosine);
    control.push_back(all_units.cosine);
    Json cell = {{"seed", options.seed + i}, {"best_of_restarts", best.json()}, {"control_all_units", all_units.json()}};
    for (const Recovery& restart : restarts) cell["restarts"].push_back(restart.json());
    cells.push_back(std::move(cell));
  }
  result.claim("planted", "data sets of 5 whose planted features one factorisation finds: matched cosine >= 0.95, Jaccard >= 0.9",
               static_cast<double>(hold), std::nullopt, ">= 4", hold >= 4);
  result.claim("planted-restarts", "the same for the best of 3 beginnings by loss", static_cast<double>(best_hold), std::nullopt, ">= 5",
               best_hold >= 5);
  result.claim("planted-control", "matched cosine of that best one, against p = 1, where all units may be used", mean(cosines),
               mean(control), ">= 0.95, baseline < 0.8", mean(cosines) >= 0.95 && mean(control) < 0.8);
  result.details["planted"] = std::move(cells);
}

// ---- Labelled sentences ------------------------------------------------------------------------------------------------------------

struct Sentences {
  std::vector<std::string> texts;
  std::vector<int64_t> labels;

  void add(const std::string& text, int64_t label) {
    texts.push_back(text);
    labels.push_back(label);
  }
  std::vector<std::vector<int32_t>> ids(const Tokenizer& tokenizer) const {
    std::vector<std::vector<int32_t>> ids;
    for (const std::string& text : texts) ids.push_back(tokenizer.encode(text));
    return ids;
  }
};

struct Split {
  Sentences fitted, judged;  // of every concept the same number
  Sentences heldout;         // those that do not stand in the model's training text
};

/// @param text that the model was trained on
Split split_glosses(const fs::path& folder, const fs::path& text, const Plan& plan, uint64_t seed) {
  Sentences all;
  for (const LabelledSentence& sentence : read_wordnet_glosses(folder)) {
    const auto label = std::find(kConcepts.begin(), kConcepts.end(), sentence.label) - kConcepts.begin();
    if (label < kNumConcepts) all.add(sentence.text, label);
  }
  note("looking for the glosses in the model's training text");
  const std::vector<bool> seen = stand_in(all.texts, *open_corpus(text));
  Split split;
  std::vector<int64_t> fitted(kNumConcepts, 0), judged(kNumConcepts, 0), heldout(kNumConcepts, 0);
  RandomStream stream(seed, "snmf/split");
  for (const int64_t i : permutation(static_cast<int64_t>(all.texts.size()), stream)) {
    const int64_t label = all.labels[i];
    if (!seen[i]) {
      if (heldout[label]++ < kHeldOut) split.heldout.add(all.texts[i], label);
    } else if (fitted[label] < plan.fitted) {
      ++fitted[label];
      split.fitted.add(all.texts[i], label);
    } else if (judged[label] < kJudged) {
      ++judged[label];
      split.judged.add(all.texts[i], label);
    }
  }
  for (int64_t label = 0; label < kNumConcepts; ++label)
    if (fitted[label] < plan.fitted || judged[label] < kJudged || heldout[label] < kSentences)
      fail("{}: {} has {} glosses in {} and {} others; the study needs {} and {}", folder.string(), kConcepts[label],
           fitted[label] + judged[label], text.string(), heldout[label], plan.fitted + kJudged, kSentences);
  return split;
}

// ---- Features of labelled text -----------------------------------------------------------------------------------------------------

/// The concept whose tokens lead a feature, and the share of the leading tokens that are of it.
struct Reading {
  int64_t label = -1;  // none where too few tokens are positive
  double purity = 0.0;
  std::vector<double> shares;
};

/// @param values [tokens, features]
std::vector<Reading> read_features(const torch::Tensor& values, const LabelledTokens& tokens) {
  std::vector<Reading> readings;
  for (int64_t i = 0; i < values.size(1); ++i) {
    Reading reading{-1, 0.0, leading_label_shares(values.select(1, i), tokens.labels, kNumConcepts, kLeading)};
    const auto most = std::max_element(reading.shares.begin(), reading.shares.end());
    if (*most > 0) reading.label = most - reading.shares.begin(), reading.purity = *most;
    readings.push_back(std::move(reading));
  }
  return readings;
}

double mean_purity(const std::vector<Reading>& readings) {
  std::vector<double> purities;
  for (const Reading& reading : readings)
    if (reading.label >= 0) purities.push_back(reading.purity);
  return purities.empty() ? 0.0 : mean(purities);
}

/// The feature of most leading tokens of the concept; the first of several.
int64_t best_for(const std::vector<Reading>& readings, int64_t label) {
  return std::max_element(readings.begin(), readings.end(),
                          [&](const Reading& a, const Reading& b) { return a.shares[label] < b.shares[label]; }) -
         readings.begin();
}

/// Directions of the width with as many units as a feature has, N(0,1) each.
torch::Tensor random_sparse_directions(int64_t count, int64_t width, int64_t units, uint64_t seed) {
  RandomStream stream(seed, "snmf/random-directions");
  torch::Tensor directions = torch::zeros({count, width});
  for (int64_t i = 0; i < count; ++i) {
    const std::vector<int64_t> order = permutation(width, stream);
    for (int64_t j = 0; j < units; ++j) directions[i][order[j]] = stream.normal();
  }
  return directions;
}

struct Detection {
  std::vector<double> scores;      // S_CD with 5 activating and 5 neutral sentences
  std::vector<double> all_scores;  // the same with every held-out sentence
  static double positive(const std::vector<double>& scores) {
    return static_cast<double>(std::count_if(scores.begin(), scores.end(), [](double score) { return score > 0; })) /
           static_cast<double>(scores.size());
  }
  Json json() const {
    return {{"positive", positive(scores)}, {"mean", mean(scores)}, {"positive_all_sentences", positive(all_scores)},
            {"mean_all_sentences", mean(all_scores)}, {"features", scores.size()}};
  }
};

/// @param labels of the directions; those of -1 are left out
Detection detect(const torch::Tensor& directions, const std::vector<int64_t>& labels, const LabelledTokens& heldout, uint64_t seed) {
  const torch::Tensor scores = sentence_scores(heldout, directions);
  Detection detection;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0) continue;
    RandomStream stream(seed, fmt::format("snmf/detection/{}", i));
    std::vector<double> activating, neutral;
    for (const int64_t sentence : permutation(scores.size(0), stream)) {
      const int64_t label = heldout.labels[heldout.offsets[sentence]];
      (label == labels[i] ? activating : neutral).push_back(scores[sentence][static_cast<int64_t>(i)].item<double>());
    }
    detection.all_scores.push_back(detection_score(activating, neutral));
    detection.scores.push_back(detection_score(std::span(activating).first(kSentences), std::span(neutral).first(kSentences)));
  }
  return detection;
}

std::vector<int64_t> labels_of(const std::vector<Reading>& readings) {
  std::vector<int64_t> labels;
  for (const Reading& reading : readings) labels.push_back(reading.label);
  return labels;
}

// ---- Steering ----------------------------------------------------------------------------------------------------------------------

/// Best over targets and signs, as in the paper.
struct Steered {
  double score = 0.0, concept_score = 0.0, fluency = 0.0, kl = 0.0;  // means over samples of the best setting
  int sign = 0;                                                       // 0: no target was reached
  double crossed = 0.0;  // the setting chosen by one half of the samples, scored by the other: the best of many noisy means is too high
  std::string sample;
  Json json() const {
    return {{"score", score}, {"concept", concept_score}, {"fluency", fluency}, {"kl", kl}, {"sign", sign}, {"crossed", crossed},
            {"sample", sample}};
  }
};

class Steering {
 public:
  Steering(const LanguageModel& model, const Plan& plan, const Sentences& judged, uint64_t seed)
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
    for (const char* const site : {kHidden, kOutput}) probes_.emplace(site, InjectionProbe(model, site, prompt));
    SiteVisitor nobody;
    const auto samples = generate_samples(model, kPrompt, kUnsteered, generation(), nobody);
    const torch::Tensor predicted = log_probabilities(samples, nobody);
    for (size_t i = 0; i < samples.size(); ++i)
      if (!samples[i].empty()) unsteered_.push_back(log_likelihood(predicted[static_cast<int64_t>(i)], samples[i]));
    std::sort(unsteered_.begin(), unsteered_.end());
    unsteered_text_ = shown(model.tokenizer.decode(samples[0]));
  }

  Steered steer(const std::string& site, const torch::Tensor& direction, int64_t concept_label) {
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

  int64_t asked() const { return asked_; }
  int64_t reachable() const { return reachable_; }
  int64_t landed() const { return landed_; }

  Json judges(const Sentences& fitted) const {
    Json lists = Json::object();
    for (int64_t label = 0; label < kNumConcepts; ++label)
      for (const int32_t id : words_[label]) lists[kConcepts[label]].push_back(shown(std::string(model_.tokenizer.token(id))));
    return {{"classifier_accuracy", classifier_.accuracy(fitted.ids(model_.tokenizer), fitted.labels)},
            {"word_lists", lists}, {"unsteered_log_likelihood", {unsteered_.front(), percentile(unsteered_, 50), unsteered_.back()}},
            {"unsteered_sample", unsteered_text_}};
  }

 private:
  GenerateOptions generation() const {
    return {.tokens = plan_.new_tokens, .temperature = 1.0, .top_k = 30, .seed = seed_, .top_p = 0.3};
  }

  /// Tokens that begin a word and have at least three letters: pieces of words say nothing of a concept.
  static std::vector<bool> whole_words(const Tokenizer& tokenizer) {
    std::vector<bool> whole(tokenizer.size(), false);
    for (int32_t id = 0; id < tokenizer.size(); ++id) {
      const std::string_view text = tokenizer.token(id);
      whole[id] = text.size() >= 4 && text[0] == ' ' &&
                  std::all_of(text.begin() + 1, text.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); });
    }
    return whole;
  }

  /// End-of-text, the prompt and a sample a row, padded with end-of-text.
  torch::Tensor sequences(const std::vector<std::vector<int32_t>>& samples) const {
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
  torch::Tensor log_probabilities(const std::vector<std::vector<int32_t>>& samples, SiteVisitor& visitor) const {
    const torch::Tensor logits = model_.network->forward({sequences(samples), {}}, visitor);
    const auto last = static_cast<int64_t>(prompt_ids_.size());
    return logits.narrow(1, last, logits.size(1) - last).log_softmax(-1);
  }

  /// Mean over the sample's tokens. @param predicted [positions, vocabulary]
  static double log_likelihood(const torch::Tensor& predicted, const std::vector<int32_t>& sample) {
    double sum = 0.0;
    const auto values = predicted.accessor<float, 2>();
    for (size_t i = 0; i < sample.size(); ++i) sum += values[static_cast<int64_t>(i)][sample[i]];
    return sum / static_cast<double>(sample.size());
  }

  /// Log-probability of all words of the concept together, mean over the places where the sample's tokens were chosen.
  double log_mass(const torch::Tensor& predicted, const std::vector<int32_t>& sample, int64_t concept_label) const {
    const std::vector<int32_t>& words = words_[concept_label];
    const torch::Tensor ids = torch::tensor(std::vector<int64_t>(words.begin(), words.end()), torch::kInt64);
    return predicted.narrow(0, 0, static_cast<int64_t>(sample.size())).index_select(1, ids).logsumexp(-1).mean().item<double>();
  }

  const LanguageModel& model_;
  const Plan& plan_;
  uint64_t seed_;
  std::vector<std::vector<int32_t>> judged_ids_;
  NaiveBayes classifier_;
  std::vector<std::vector<int32_t>> words_;
  std::vector<int32_t> prompt_ids_;
  std::map<std::string, InjectionProbe> probes_;
  std::vector<double> unsteered_;
  std::string unsteered_text_;
  int64_t asked_ = 0, reachable_ = 0, landed_ = 0;
};

// ---- The study on the shipped model ------------------------------------------------------------------------------------------------

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
        split_(split_glosses(wordnet(options), training_text(options), plan_, seed)),
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
    figures_.detection = Detection::positive(ours.scores);
    figures_.detection_random = Detection::positive(same.scores);
    figures_.details["detection"] = {
        {"snmf", ours.json()}, {"random_directions", same.json()}, {"random_directions_any_concept", of_any.json()}};
  }

  void measure_steering() {
    const auto topk = train_top_k();
    const std::vector<Reading> latents = read_features(dense(topk->encode(output_.activations), topk->size()), output_);
    const torch::Tensor atoms = topk->atoms(), random = random_directions();
    Steering steering(model_, plan_, split_.judged, seed_);
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
      steer(kDiffMean, kOutput, difference_of_means(label));
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
    for (int64_t i = 0; i < 10; ++i)
      tokens.push_back(shown(std::string(model_.tokenizer.token(hidden_.ids[order[i].item<int64_t>()]))));
    return tokens;
  }

  torch::Tensor difference_of_means(int64_t label) const {
    const torch::Tensor of_label = torch::tensor(output_.labels, torch::kInt64) == label;
    return output_.activations.index({of_label}).mean(0) - output_.activations.index({~of_label}).mean(0);
  }

  static torch::Tensor dense(const SparseCodes& codes, int64_t latents) {
    torch::Tensor values = torch::zeros({codes.rows(), latents});
    const torch::Tensor counts = codes.offsets.narrow(0, 1, codes.rows()) - codes.offsets.narrow(0, 0, codes.rows());
    values.index_put_({torch::repeat_interleave(counts), codes.atoms.to(torch::kInt64)}, codes.values);
    return values;
  }

  std::shared_ptr<Dictionary> train_top_k() const {
    const fs::path out = folder_ / fmt::format("topk-seed{}", seed_);
    if (!fs::exists(out / "config.json")) {
      CaptureOptions capture_options;
      capture_options.site = kOutput;
      capture_options.tokens = plan_.captured;
      capture(model_, training_text(options_), capture_options, folder_ / "activations");
      DictionaryTrainingOptions training;
      training.architecture = "topk";
      training.latents = 2048;
      training.k = 16;
      training.tokens = plan_.trained;
      training.seed = seed_;
      training.resume = true;
      train_dictionary(ActivationStore::open(folder_ / "activations"), training, out);
    }
    return load_dictionary(out);
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
  result.claim("steering-topk", "final score of steering at equal KL, mean over concepts, against the TopK latent of the same concept", here,
               means[kTopK], ">= 1.2 baseline, p < 0.05", here >= 1.2 * means[kTopK] && p[kTopK] < 0.05);
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

StudyResult run_snmf(const StudyOptions& options) {
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
