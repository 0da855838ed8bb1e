#include <array>

#include "studies/coreinfer.h"
#include "studies/g_sae.h"
#include "studies/snmf.h"
#include "studies/study.h"

namespace sememe {

std::span<const Study> studies() {
  static constexpr std::array kStudies = {
      Study{"coreinfer", "Decoding with the neurons that a prompt keeps firing (Wang et al. 2024): quality, speed, stability", run_coreinfer},
      Study{"g-sae", "Gradients in TopK selection (Olmo et al. 2024) against plain TopK on the shipped model", run_g_sae},
      Study{"snmf", "Sparse features of MLP activations by semi-NMF (Shafran et al. 2025): found, detected, steering", run_snmf},
  };
  return kStudies;
}

Json to_json(const Study& study, const StudyOptions& options, const StudyResult& result) {
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  Json claims = Json::array();
  for (const Claim& claim : result.claims)
    claims.push_back({{"id", claim.id},
                      {"what", claim.what},
                      {"paper", number(claim.paper)},
                      {"here", claim.here},
                      {"baseline", number(claim.baseline)},
                      {"bar", claim.bar},
                      {"holds", claim.holds}});
  return {{"study", study.name},
          {"mode", options.full ? "full" : "quick"},
          {"seed", options.seed},
          {"claims", claims},
          {"details", result.details}};
}

}  // namespace sememe
