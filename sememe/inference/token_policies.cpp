#include "sememe/inference/token_policies.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "sememe/inference/unit_of.h"
#include "sememe/kernels/layer_rows.h"

namespace sememe {
namespace {

/// The `count`-th largest of the values, a NaN being the least. Those that equal it may be more than are wanted; all of them are kept.
float nth_largest(std::vector<float> values, int64_t count) {
  for (float& value : values)
    if (std::isnan(value)) value = -INFINITY;  // which no order holds
  std::nth_element(values.begin(), values.begin() + (count - 1), values.end(), std::greater<>());
  return values[count - 1];
}

}  // namespace

void LargestActivations::visit(const InputRows& rows, int64_t first, int64_t last, int, int) {
  std::vector<float> sizes(rows.width);
  for (int64_t t = first; t < last; ++t) {
    float* const row = rows.values + t * rows.stride;
    for (int64_t i = 0; i < rows.width; ++i) sizes[i] = std::abs(row[i]);
    const float least = nth_largest(sizes, kept_of(keep_, rows.width));
    for (int64_t i = 0; i < rows.width; ++i)
      if (sizes[i] < least) row[i] = 0.0f;
  }
}

void GateThresholds::visit(const InputRows& rows, int64_t first, int64_t last, int, int) {
  std::vector<float> gate(rows.width);
  const float threshold = thresholds_.at(rows.layer);
  for (int64_t t = first; t < last; ++t) {
    float* const row = rows.values + t * rows.stride;
    if (rows.gate != nullptr)
      kernels::unit_row(unit_of(kind_), rows.gate + t * rows.stride, nullptr, rows.width, gate.data());
    else
      std::copy_n(row, rows.width, gate.begin());
    for (int64_t i = 0; i < rows.width; ++i)
      if (std::abs(gate[i]) < threshold) row[i] = 0.0f;
  }
}

void zero_below(float threshold, float* row, int64_t width) {
  for (int64_t i = 0; i < width; ++i)
    if (std::abs(row[i]) < threshold) row[i] = 0.0f;
}

void InputThresholds::visit(const InputRows& rows, int64_t first, int64_t last, int, int) {
  const float threshold = thresholds_.at(rows.layer)[static_cast<int>(rows.input)];
  for (int64_t t = first; t < last; ++t) zero_below(threshold, rows.values + t * rows.stride, rows.width);
}

void PredictedNeurons::visit(const InputRows& rows, int64_t first, int64_t last, int, int) {
  const NeuronPredictor& predictor = predictors_->at(rows.layer);
  std::vector<float> hidden(predictor.rank() + kernels::kPanelRows), logits(rows.width + kernels::kPanelRows);
  std::vector<bool> taken(rows.width);
  for (int64_t t = first; t < last; ++t) {
    predictor.predict(rows.mlp_input + t * rows.mlp_width, hidden.data(), logits.data());
    float least = 0.0f;  // a probability of one half
    if (rule_ == Rule::kBest) least = nth_largest({logits.begin(), logits.begin() + rows.width}, kept_of(keep_, rows.width));
    for (int64_t i = 0; i < rows.width; ++i) taken[i] = logits[i] >= least;
    for (const int32_t neuron : always_.at(rows.layer)) taken[neuron] = true;
    float* const row = rows.values + t * rows.stride;
    for (int64_t i = 0; i < rows.width; ++i)
      if (!taken[i]) row[i] = 0.0f;
  }
}

}  // namespace sememe
