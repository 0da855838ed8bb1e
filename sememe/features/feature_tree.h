#pragma once
// The tree that a hierarchy of semi-NMFs spans (recursive SNMF, Shafran et al. 2025): a feature of a level is a combination of features of
// the level below, those that weigh most in it are its children.

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/semi_nmf.h"

namespace sememe {

struct FeatureChild {
  int64_t feature = 0;  ///< of the level below
  float weight = 0.0f;
};

struct FeatureTreeOptions {
  double share = 0.15;   ///< tau: a child weighs at least this share of the heaviest one
  int64_t children = 4;  ///< at most, the heaviest
};

/// Children of each feature of each level above the first, heaviest first: [levels - 1][features of level i + 1]. A feature of one child
/// has none: a branch that does not divide says nothing.
/// @throws UsageError for options that cannot be
std::vector<std::vector<std::vector<FeatureChild>>> feature_children(const std::vector<SemiNmf>& levels,
                                                                     const FeatureTreeOptions& options);

/// Coefficients of the features of a level for the rows of the first: coefficients of level 0 . ... . of that level [rows, features].
torch::Tensor effective_coefficients(const std::vector<SemiNmf>& levels, int64_t level);

/// {"ranks": [...], "nodes": [{"level", "feature", "children": [{"feature", "weight"}]}]}, levels from 0; level 0 has no nodes.
Json feature_tree_to_json(const std::vector<SemiNmf>& levels, const FeatureTreeOptions& options);
/// The same for Graphviz: one node "level/feature" for each feature that has children or a parent.
std::string feature_tree_to_dot(const std::vector<SemiNmf>& levels, const FeatureTreeOptions& options);

}  // namespace sememe
