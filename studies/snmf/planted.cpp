#include "studies/snmf/planted.h"

#include <torch/torch.h>

#include <algorithm>

#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/features/bootstrap.h"
#include "sememe/features/semi_nmf.h"
#include "sememe/features/similarity.h"

namespace sememe::snmf {
namespace {

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

}  // namespace

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

}  // namespace sememe::snmf
