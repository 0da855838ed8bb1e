#include "studies/snmf/reading.h"

#include <algorithm>

#include "sememe/features/bootstrap.h"
#include "studies/snmf/glosses.h"

namespace sememe::snmf {

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

int64_t best_for(const std::vector<Reading>& readings, int64_t label) {
  return std::max_element(readings.begin(), readings.end(),
                          [&](const Reading& a, const Reading& b) { return a.shares[label] < b.shares[label]; }) -
         readings.begin();
}

std::vector<int64_t> labels_of(const std::vector<Reading>& readings) {
  std::vector<int64_t> labels;
  for (const Reading& reading : readings) labels.push_back(reading.label);
  return labels;
}

}  // namespace sememe::snmf
