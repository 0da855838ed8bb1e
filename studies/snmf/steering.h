#pragma once
// Texts that the model writes while a direction is added, at equal KL for all directions, and how the judges score them.

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/injection.h"
#include "sememe/features/text_judges.h"
#include "sememe/language/language_model.h"
#include "sememe/network/network.h"
#include "studies/snmf/glosses.h"

namespace sememe::snmf {

/// Best over targets and signs, as in the paper.
struct Steered {
  double score = 0.0, concept_score = 0.0, fluency = 0.0, kl = 0.0;  ///< means over samples of the best setting
  int sign = 0;                                                       ///< 0: no target was reached
  /// The setting chosen by one half of the samples, scored by the other: the best of many noisy means is too high.
  double crossed = 0.0;
  std::string sample;
  Json json() const;
};

struct SamplePlan {
  int64_t samples, new_tokens;  ///< of each direction, target and sign
};

class Steering {
 public:
  /// @param sites  at which directions will be added
  /// @param judged sentences from which the judges learn
  Steering(const LanguageModel& model, const std::vector<std::string>& sites, const SamplePlan& plan, const Sentences& judged,
           uint64_t seed);

  /// @param direction of norm 1
  Steered steer(const std::string& site, const torch::Tensor& direction, int64_t concept_label);

  int64_t asked() const { return asked_; }          ///< KL targets
  int64_t reachable() const { return reachable_; }  ///< of them
  int64_t landed() const { return landed_; }        ///< of these, met within 0.01 nats

  /// What the judges know, and how well the classifier tells these sentences apart.
  Json judges(const Sentences& fitted) const;

 private:
  GenerateOptions generation() const;
  torch::Tensor sequences(const std::vector<std::vector<int32_t>>& samples) const;
  torch::Tensor log_probabilities(const std::vector<std::vector<int32_t>>& samples, SiteVisitor& visitor) const;
  double log_mass(const torch::Tensor& predicted, const std::vector<int32_t>& sample, int64_t concept_label) const;

  const LanguageModel& model_;
  SamplePlan plan_;
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

}  // namespace sememe::snmf
