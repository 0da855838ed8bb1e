#pragma once
// A small batch and the options with which a learner takes it, for tests of learners.

#include "sememe/features/learner.h"

namespace sememe {

struct LearnerSetting {
  LearnerOptions options;
  torch::Tensor x, gradients;  // [rows, width]
  ActivationStatistics statistics;

  explicit LearnerSetting(LearnerOptions given, int64_t rows = 64) : options(std::move(given)) {
    torch::manual_seed(7);
    draw(rows);
  }
  void draw(int64_t rows) {
    x = torch::randn({rows, options.width}) * 3.0 + 0.5;
    gradients = torch::randn({rows, options.width});
    statistics = measure_activations(x);
  }
};

}  // namespace sememe
