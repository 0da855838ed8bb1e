#include "sememe/features/feature_tree.h"

#include <gtest/gtest.h>

#include "sememe/base/error.h"

namespace sememe {
namespace {

/// Two levels: 3 features of 2 rows, and 2 features of those.
std::vector<SemiNmf> two_levels() {
  std::vector<SemiNmf> levels(2);
  levels[0].features = torch::eye(3);
  levels[0].coefficients = torch::tensor({{1.0f, 0.0f, 2.0f}, {0.0f, 1.0f, 0.0f}});
  levels[1].features = torch::ones({2, 3});
  levels[1].coefficients = torch::tensor({{1.0f, 0.1f}, {0.2f, 1.0f}, {0.5f, 0.0f}});
  return levels;
}

TEST(FeatureTree, ChildrenWeighEnoughBesideTheHeaviestAndComeHeaviestFirst) {
  const auto children = feature_children(two_levels(), {});
  ASSERT_EQ(children.size(), 1u);
  ASSERT_EQ(children[0][0].size(), 3u);
  EXPECT_EQ(children[0][0][0].feature, 0);
  EXPECT_EQ(children[0][0][1].feature, 2);
  EXPECT_EQ(children[0][0][2].feature, 1);
  EXPECT_TRUE(children[0][1].empty());  // 0.1 is too light beside 1, and one child is none
}

TEST(FeatureTree, AtMostAsManyChildrenAsAsked) {
  EXPECT_EQ(feature_children(two_levels(), {.share = 0.05, .children = 2})[0][0].size(), 2u);
  EXPECT_EQ(feature_children(two_levels(), {.share = 0.05, .children = 2})[0][1].size(), 2u);
  EXPECT_THROW(feature_children(two_levels(), {.share = 0.0}), UsageError);
  EXPECT_THROW(feature_children(two_levels(), {.children = 1}), UsageError);
}

TEST(FeatureTree, EffectiveCoefficientsAreTheProductOfTheLevels) {
  EXPECT_TRUE(torch::allclose(effective_coefficients(two_levels(), 1), torch::tensor({{2.0f, 0.1f}, {0.2f, 1.0f}})));
  EXPECT_TRUE(torch::equal(effective_coefficients(two_levels(), 0), two_levels()[0].coefficients));
  EXPECT_THROW(effective_coefficients(two_levels(), 2), Error);
}

TEST(FeatureTree, IsWrittenAsJsonAndForGraphviz) {
  const Json tree = feature_tree_to_json(two_levels(), {});
  EXPECT_EQ(tree["ranks"], Json({3, 2}));
  EXPECT_EQ(tree["nodes"][0]["children"][1]["feature"], 2);
  const std::string dot = feature_tree_to_dot(two_levels(), {});
  EXPECT_NE(dot.find("\"1/0\" -> \"0/2\" [label=\"0.5\"]"), std::string::npos) << dot;
  EXPECT_EQ(dot.find("\"1/1\""), std::string::npos) << dot;
}

}  // namespace
}  // namespace sememe
