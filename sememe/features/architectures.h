#pragma once
// The kinds of dictionary there are. A new one is its header, its source and one line in architectures.cpp.

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sememe/features/learner.h"

namespace sememe {

/// What the ranks of a run can share of its training (features/rank_grid.h).
enum class Sharing { kNothing, kRows, kRowsAndLatents };

struct Architecture {
  std::string_view name;
  std::string_view what;      ///< one line for --help
  bool needs_gradients;       ///< training needs gradients beside the activations
  std::vector<std::string_view> options;  ///< of training, those that not every architecture has, e.g. "k"
  double rate;                            ///< its own default learning rate, as a share of default_learning_rate(); 0 if it has none
  Sharing sharing;
  std::shared_ptr<Dictionary> (*load)(const Json& config, const SafetensorsFile& file);
  std::unique_ptr<DictionaryLearner> (*learn)(const LearnerOptions& options, const ActivationStatistics& statistics);

  bool takes(std::string_view option) const;
};

std::span<const Architecture> architectures();

/// @throws UsageError that lists the names there are
const Architecture& find_architecture(std::string_view name);

}  // namespace sememe
