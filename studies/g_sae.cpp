#include "studies/g_sae.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/progress.h"
#include "sememe/features/activation_store.h"
#include "sememe/features/architectures.h"
#include "sememe/features/bootstrap.h"
#include "sememe/features/capture.h"
#include "sememe/features/dictionary_training.h"
#include "sememe/features/evaluation.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/injection.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

// The paper's setting, scaled to the shipped model: residual stream after the second of four layers.
constexpr const char* kSite = "blocks.1.output";
constexpr int64_t kLatents = 2048;

struct Plan {
  std::vector<int64_t> k;
  int64_t seeds;
  int64_t captured;   // distinct tokens with gradients
  int64_t tokens;     // trained on by each dictionary
  int64_t evaluated;  // held-out tokens
  std::vector<double> betas;  // more than one: the best on validation text is taken
};

Plan plan_of(bool full) {
  if (full) return {{8, 16, 32}, 3, 1'500'000, 3'000'000, 32768, {0.5, 1.0, 2.0, 4.0}};
  return {{16}, 2, 300'000, 1'000'000, 32768, {1.0}};
}

struct Cell {
  Json evaluation;
  double shift = 0.0;  // median KL at the injected norm
};

class Run {
 public:
  Run(const StudyOptions& options, const Plan& plan)
      : options_(options), plan_(plan), folder_(options.work / "g-sae" / (options.full ? "full" : "quick")) {
    const fs::path text = options.work / "text";
    train_ = text / "train.jsonl.zst";
    validation_ = text / "validation.jsonl.zst";
    heldout_ = text / "heldout.jsonl.zst";
    if (!fs::exists(heldout_))
      fail("{}: not there; make the text first with sememe model corpus --sources models/corpus.json --out {}", heldout_.string(),
           text.string());
    fs::create_directories(folder_);
    CaptureOptions capture_options;
    capture_options.site = kSite;
    capture_options.tokens = plan.captured;
    capture_options.gradients = true;
    capture(model_, train_, capture_options, folder_ / "activations");
  }

  /// Trains (unless an earlier run left the same dictionary) and returns where it is.
  fs::path train(const std::string& architecture, int64_t k, uint64_t seed, double beta) const {
    const fs::path out = folder_ / fmt::format("{}-k{}-beta{}-seed{}", architecture, k, beta, seed);
    if (fs::exists(out / "config.json")) return out;
    DictionaryTrainingOptions training;
    training.architecture = architecture;
    training.latents = kLatents;
    training.k = k;
    training.tokens = plan_.tokens;
    training.seed = seed;
    const Architecture& kind = find_architecture(architecture);
    if (!kind.takes("k")) training.k.reset(), training.target_l0 = static_cast<double>(k);
    if (architecture == "gsae") training.gradient.beta = beta;
    training.resume = true;
    note(fmt::format("training {}, k = {}, seed {}{}", architecture, k, seed,
                     architecture == "gsae" ? fmt::format(", beta = {}", beta) : ""));
    train_dictionary(ActivationStore::open(folder_ / "activations"), training, out);
    return out;
  }

  Json evaluate(const Dictionary& dictionary) const { return evaluate(dictionary, heldout_); }
  Json evaluate(const Dictionary& dictionary, const fs::path& text) const {
    EvaluationOptions evaluation;
    evaluation.site = kSite;
    evaluation.tokens = plan_.evaluated;
    return evaluate_dictionary(dictionary, model_, text, evaluation);
  }

  Cell measure(const fs::path& folder) const {
    const auto dictionary = load_dictionary(folder);
    InjectionOptions injection;
    injection.site = kSite;
    injection.seed = options_.seed;
    return {evaluate(*dictionary, heldout_), injection_effect(*dictionary, model_, heldout_, firing(*dictionary), injection).median()};
  }

  /// TopK's weights with g-SAE's selection at evaluation: what the label that the gradient knows is worth by itself.
  Json evaluate_control(const fs::path& folder, double beta) const {
    const auto plain = std::dynamic_pointer_cast<TopKDictionary>(load_dictionary(folder));
    GradientSelection selection;
    selection.beta = beta;
    const ActivationRows rows = ActivationStore::open(folder_ / "activations").read(0, 4096);
    const double influence = rows.gradients.matmul(plain->atoms().t()).abs().mean().item<double>();
    return evaluate(GradientTopKDictionary(plain->weights(), plain->k(), selection, influence, {}), heldout_);
  }

  double choose_beta() const {
    if (plan_.betas.size() == 1) return plan_.betas[0];
    double best = 0.0, best_recovered = -INFINITY;
    for (const double beta : plan_.betas) {
      const auto dictionary = load_dictionary(train("gsae", 16, options_.seed, beta));
      const double recovered = evaluate(*dictionary, validation_).at("ce_recovered").get<double>();
      note(fmt::format("beta {}: CE recovered {:.4f} on validation text with plain selection", beta, recovered));
      if (recovered > best_recovered) best = beta, best_recovered = recovered;
    }
    return best;
  }

 private:
  std::vector<int64_t> firing(const Dictionary& dictionary) const {
    const ActivationRows rows = ActivationStore::open(folder_ / "activations").read(0, 16384);
    const torch::Tensor counts = torch::bincount(dictionary.encode(rows.activations).atoms.to(torch::kInt64), {}, kLatents);
    const torch::Tensor found = torch::nonzero(counts).flatten();
    return {found.const_data_ptr<int64_t>(), found.const_data_ptr<int64_t>() + found.numel()};
  }

  StudyOptions options_;
  Plan plan_;
  fs::path folder_, train_, validation_, heldout_;
  LanguageModel model_ = LanguageModel::load("models/english");
};

}  // namespace

StudyResult run_g_sae(const StudyOptions& options) {
  const Plan plan = plan_of(options.full);
  const Run run(options, plan);
  const double beta = run.choose_beta();

  Json cells = Json::array();
  std::vector<double> dead, dead_base, informed, plain, recovered_base, control, shift, shift_base;
  for (const int64_t k : plan.k) {
    for (int64_t i = 0; i < plan.seeds; ++i) {
      const uint64_t seed = options.seed + i;
      const fs::path base_folder = run.train("topk", k, seed, 0.0);
      const Cell base = run.measure(base_folder), ours = run.measure(run.train("gsae", k, seed, beta));
      const Json base_informed = run.evaluate_control(base_folder, beta);
      dead.push_back(ours.evaluation.at("dead").get<double>() / kLatents);
      dead_base.push_back(base.evaluation.at("dead").get<double>() / kLatents);
      plain.push_back(ours.evaluation.at("ce_recovered"));
      informed.push_back(ours.evaluation.at("ce_recovered_gradient"));
      recovered_base.push_back(base.evaluation.at("ce_recovered"));
      control.push_back(base_informed.at("ce_recovered_gradient"));
      shift.push_back(ours.shift);
      shift_base.push_back(base.shift);
      cells.push_back({{"k", k}, {"seed", seed}, {"topk", base.evaluation}, {"gsae", ours.evaluation},
                       {"topk_with_gradient_selection", base_informed}, {"shift_topk", base.shift}, {"shift_gsae", ours.shift}});
    }
  }

  const auto count = [&](auto holds) {
    int64_t cells_that_hold = 0;
    for (size_t i = 0; i < dead.size(); ++i) cells_that_hold += holds(i);
    return cells_that_hold;
  };
  const auto all = static_cast<int64_t>(dead.size());
  const int64_t all_but_one = options.full ? all - 1 : all;
  StudyResult result;
  const auto claim = [&](const char* id, const std::string& what, const std::vector<double>& ours, const std::vector<double>& base,
                         const std::string& bar, bool holds) {
    result.claims.push_back({id, what, std::nullopt, mean(ours), mean(base), bar, holds});
  };
  claim("dead", "share of latents that never fire on held-out text, g-SAE against TopK", dead, dead_base,
        fmt::format("<= in {} of {} cells", all_but_one, all), count([&](size_t i) { return dead[i] <= dead_base[i]; }) >= all_but_one);
  claim("ce-recovered-gradient", "CE recovered, g-SAE selecting with gradients (which know the next token) against plain TopK", informed,
        recovered_base, fmt::format("> in {} of {} cells", all, all),
        count([&](size_t i) { return informed[i] > recovered_base[i]; }) == all);
  claim("ce-recovered-control", "the same against TopK's weights with the same selection: what training adds to it", informed, control,
        fmt::format("> in {} of {} cells", all, all), count([&](size_t i) { return informed[i] > control[i]; }) == all);
  claim("ce-recovered-plain", "CE recovered, both with plain selection", plain, recovered_base,
        fmt::format(">= - 0.01 in {} of {}", all, all), count([&](size_t i) { return plain[i] >= recovered_base[i] - 0.01; }) == all);
  claim("logit-shift", "median KL in nats when one latent's atom is added at a fixed norm", shift, shift_base, ">= 1.05 baseline",
        mean(shift) >= 1.05 * mean(shift_base));
  // The rest of the family, as sparse (by k, or by the L0 they aim at), for comparison; no claim of the paper is about them.
  Json others = Json::array();
  if (options.full) {
    for (const char* const architecture : {"batchtopk", "matryoshka", "jumprelu", "gated", "relu", "attribution"})
      others.push_back({{"architecture", architecture},
                        {"evaluation", run.evaluate(*load_dictionary(run.train(architecture, 16, options.seed, 0.0)))}});
  }
  result.details = {{"beta", beta}, {"latents", kLatents}, {"site", kSite}, {"tokens_captured", plan.captured},
                    {"tokens_trained", plan.tokens}, {"tokens_evaluated", plan.evaluated}, {"cells", cells}, {"others_k16", others}};
  return result;
}

}  // namespace sememe
