#include "sememe/features/feature_tree.h"

#include <algorithm>

#include "sememe/base/error.h"

namespace sememe {

std::vector<std::vector<std::vector<FeatureChild>>> feature_children(const std::vector<SemiNmf>& levels,
                                                                     const FeatureTreeOptions& options) {
  if (!(options.share > 0 && options.share <= 1))
    fail_usage("the share {} of the heaviest child: give one above 0, at most 1", options.share);
  if (options.children < 2) fail_usage("{} children: give at least 2", options.children);
  std::vector<std::vector<std::vector<FeatureChild>>> of_levels;
  for (size_t level = 1; level < levels.size(); ++level) {
    const torch::Tensor weights = levels[level].coefficients.to(torch::kFloat).t().contiguous();  // [features, features below]
    std::vector<std::vector<FeatureChild>> of_features;
    for (int64_t feature = 0; feature < weights.size(0); ++feature) {
      const auto [sorted, order] = weights[feature].sort(/*stable=*/true, 0, /*descending=*/true);
      const auto least = static_cast<float>(options.share) * sorted[0].item<float>();
      std::vector<FeatureChild> children;
      for (int64_t i = 0; i < std::min(options.children, sorted.size(0)); ++i) {
        const auto weight = sorted[i].item<float>();
        if (weight > 0 && weight >= least) children.push_back({order[i].item<int64_t>(), weight});
      }
      if (children.size() < 2) children.clear();
      of_features.push_back(std::move(children));
    }
    of_levels.push_back(std::move(of_features));
  }
  return of_levels;
}

torch::Tensor effective_coefficients(const std::vector<SemiNmf>& levels, int64_t level) {
  if (level < 0 || level >= static_cast<int64_t>(levels.size()))
    fail("the hierarchy has {} levels, there is no level {}", levels.size(), level);
  torch::Tensor product = levels[0].coefficients;
  for (int64_t i = 1; i <= level; ++i) product = torch::mm(product, levels[i].coefficients);
  return product;
}

Json feature_tree_to_json(const std::vector<SemiNmf>& levels, const FeatureTreeOptions& options) {
  Json ranks = Json::array(), nodes = Json::array();
  for (const SemiNmf& level : levels) ranks.push_back(level.features.size(0));
  const auto of_levels = feature_children(levels, options);
  for (size_t i = 0; i < of_levels.size(); ++i)
    for (size_t feature = 0; feature < of_levels[i].size(); ++feature) {
      Json children = Json::array();
      for (const FeatureChild& child : of_levels[i][feature]) children.push_back({{"feature", child.feature}, {"weight", child.weight}});
      nodes.push_back({{"level", i + 1}, {"feature", feature}, {"children", std::move(children)}});
    }
  return {{"ranks", ranks}, {"share", options.share}, {"nodes", nodes}};
}

std::string feature_tree_to_dot(const std::vector<SemiNmf>& levels, const FeatureTreeOptions& options) {
  std::string dot = "digraph features {\n  rankdir=LR;\n  node [shape=box];\n";
  const auto of_levels = feature_children(levels, options);
  for (size_t i = 0; i < of_levels.size(); ++i)
    for (size_t feature = 0; feature < of_levels[i].size(); ++feature)
      for (const FeatureChild& child : of_levels[i][feature])
        dot += fmt::format("  \"{}/{}\" -> \"{}/{}\" [label=\"{:.3g}\"];\n", i + 1, feature, i, child.feature, child.weight);
  return dot + "}\n";
}

}  // namespace sememe
