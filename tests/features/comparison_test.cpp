#include "sememe/features/comparison.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/formats/npy.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

class Comparisons : public ScratchFolder {
 protected:
  /// A dictionary of random atoms in the folder `name`.
  void add(const std::string& name, int64_t latents, int64_t k, uint64_t seed, int64_t width = 8, bool settings = true) {
    torch::manual_seed(seed);
    AutoencoderWeights weights = AutoencoderWeights::zeros(latents, width);
    weights.decoder.copy_(torch::nn::functional::normalize(torch::randn({latents, width})));
    weights.encoder.copy_(weights.decoder);
    std::filesystem::create_directories(folder_ / name);
    TopKDictionary(weights, k, Json{{"site", "blocks.1.output"}}).save(folder_ / name);
    Json training{{"fvu", 0.2}, {"l0", k}, {"dead", 1}};
    if (settings) training["settings"] = {{"latents", latents}, {"k", k}, {"tokens", 1000}, {"seed", seed}};
    write_json(folder_ / name / "training.json", training);
  }
  void evaluate(const std::string& name, double l0, double recovered, int64_t tokens = 1000, double clean = 3.0) {
    write_json(folder_ / (name + "-evaluation.json"),
               {{"tokens", tokens}, {"l0", l0}, {"ce_recovered", recovered}, {"ce_clean", clean}, {"dead", 2}, {"fvu", 0.1}});
  }
  Json compared(const ComparisonOptions& options = {}) const { return compare_dictionaries(find_compared({folder_}), options); }
  std::string warnings() const { return fmt::format("{}", fmt::join(compared()["warnings"].get<std::vector<std::string>>(), " ")); }
};

TEST_F(Comparisons, AFolderStandsForItsDictionariesInTheOrderOfTheirNumbers) {
  for (const char* const name : {"topk-k16-s1", "topk-k8-s1", "topk-k8-s10", "topk-k8-s2"}) add(name, 6, 2, 1);
  evaluate("topk-k8-s2", 2, 0.5);
  write_json(folder_ / "topk-k16-s1" / "evaluation.json", {{"tokens", 5}});
  std::vector<std::string> names;
  const std::vector<ComparedDictionary> found = find_compared({folder_});
  for (const ComparedDictionary& one : found) names.push_back(one.name);
  EXPECT_EQ(names, (std::vector<std::string>{"topk-k8-s1", "topk-k8-s2", "topk-k8-s10", "topk-k16-s1"}));
  EXPECT_FALSE(found[0].evaluation.has_value());
  EXPECT_EQ((*found[1].evaluation)["ce_recovered"], 0.5);
  EXPECT_EQ((*found[3].evaluation)["tokens"], 5);
}

TEST_F(Comparisons, DictionariesKeepTheOrderGivenAndCountOnce) {
  add("b", 6, 2, 1);
  add("a", 6, 2, 2);
  add("other/a", 6, 2, 3);
  const std::vector<ComparedDictionary> found = find_compared({folder_ / "b", folder_ / "a/", folder_ / "b/", folder_ / "other" / "a"});
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].name, "b");
  EXPECT_EQ(found[1].name, (folder_ / "a").string());  // two are called a
  EXPECT_EQ(found[2].name, (folder_ / "other" / "a").string());
  EXPECT_TRUE(contains(error_from([&] { find_compared({folder_ / "nowhere"}); }), {"nowhere"}));
}

TEST_F(Comparisons, OnlyTheSeedMayDifferWithinARecipe) {
  add("a", 6, 2, 1);
  add("b", 6, 2, 2);
  add("c", 6, 3, 3);
  add("d", 6, 2, 4, 8, false);  // nothing says how it was learnt
  const Json result = compared();
  EXPECT_EQ(result["recipes"].size(), 3u);
  EXPECT_EQ(result["recipes"][0]["dictionaries"], (std::vector<int>{0, 1}));
  int seeds = 0;
  for (const Json& pair : result["pairs"]) {
    if (!pair["seeds"].get<bool>()) continue;
    ++seeds;
    EXPECT_EQ(pair["matched_cosine"], result["recipes"][0]["stability"]);
  }
  EXPECT_EQ(seeds, 1);
  EXPECT_EQ(result["pairs"].size(), 6u);
  EXPECT_FALSE(result["dictionaries"][0].contains("settings"));
}

TEST_F(Comparisons, TheFrontIsWhatNoOtherBeats) {
  for (const char* const name : {"a", "b", "c", "d", "e"}) add(name, 6, 2, 1);
  evaluate("a", 8, 0.90);
  evaluate("b", 16, 0.95);
  evaluate("c", 16, 0.94);  // b keeps more with as few
  evaluate("d", 20, 0.95);  // b keeps as much with fewer
  const Json result = compared();
  EXPECT_EQ(result["front"], (std::vector<int>{0, 1}));  // e was not evaluated
  EXPECT_NE(result["findings"][0].get<std::string>().find("a (90.0 % at 8.0 latents a token) and b"), std::string::npos);
}

TEST_F(Comparisons, WhatCannotBeComparedIsSaid) {
  add("a", 6, 2, 1);
  add("b", 6, 2, 2);
  EXPECT_NE(warnings().find("No evaluation"), std::string::npos);
  evaluate("a", 2, 0.9);
  EXPECT_NE(warnings().find("Only 1 of 2"), std::string::npos);
  evaluate("b", 2, 0.9);
  EXPECT_EQ(warnings(), "");
  evaluate("b", 2, 0.9, 500);
  EXPECT_NE(warnings().find("from 500 to 1000 tokens"), std::string::npos);
  evaluate("b", 2, 0.9, 1000, 3.2);
  EXPECT_NE(warnings().find("different texts"), std::string::npos);
}

TEST_F(Comparisons, RowsGiveFiguresAndWhereSplitAtomsFire) {
  add("a", 6, 2, 1);
  add("b", 12, 2, 2);
  const torch::Tensor rows = torch::randn({50, 8});
  NpyWriter writer(folder_ / "rows.npy", 8);
  writer.write({rows.data_ptr<float>(), static_cast<size_t>(rows.numel())});
  writer.commit();
  EXPECT_FALSE(compared()["pairs"][0]["splitting"].contains("rows"));
  const Json result = compared({.activations = folder_ / "rows.npy", .rows = 40, .threshold = 0.3});
  EXPECT_EQ(result["pairs"][0]["splitting"]["rows"], 40);
  EXPECT_EQ(result["pairs"][0]["splitting"]["smaller"], 0);
  EXPECT_EQ(result["dictionaries"][1]["on_activations"]["rows"], 40);
  EXPECT_LE(result["dictionaries"][1]["on_activations"]["l0"].get<double>(), 2.0);
}

TEST_F(Comparisons, WrongRequestsAreRefused) {
  add("a", 6, 2, 1);
  EXPECT_TRUE(contains(error_from([&] { compared(); }), {"1 dictionary", "at least 2"}));
  add("b", 6, 2, 1, 5);
  EXPECT_TRUE(contains(error_from([&] { compared(); }), {"/b", "width 5", "/a", "width 8"}));
  add("b", 6, 2, 1);
  EXPECT_TRUE(contains(error_from([&] { compared({.rows = 0}); }), {"--rows 0"}));
  EXPECT_TRUE(contains(error_from([&] { compared({.threshold = 1.0}); }), {"--threshold 1"}));
  write_json(folder_ / "a-evaluation.json", {{"tokens", 5}, {"l0", 2}});
  EXPECT_TRUE(contains(error_from([&] { compared(); }), {"a-evaluation.json", "ce_recovered"}));
}

TEST_F(Comparisons, ThePageHoldsItsDataAndFetchesNothing) {
  add("a", 6, 2, 1);
  add("<!--<b>{{style}}", 6, 2, 2);
  const Json result = compared();
  std::string page = comparison_page(result);
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  ASSERT_NE(page.find(open), std::string::npos);
  EXPECT_EQ(Json::parse(page.substr(begin, page.find("</script>", begin) - begin)), result);
  // The name of a namespace is no address that is fetched.
  const std::string svg = "'http://www.w3.org/2000/svg'";
  for (size_t place; (place = page.find(svg)) != std::string::npos;) page.erase(place, svg.size());
  for (const char* const load : {"http://", "https://", "//cdn", "@import", "url(", "<link", " src=", "fetch(", "XMLHttpRequest"})
    EXPECT_EQ(page.find(load), std::string::npos) << load;
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
}

}  // namespace
}  // namespace sememe
