#include "sememe/features/page.h"
#include "sememe/features/report.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "sememe/data/byte_stream.h"
#include "sememe/features/description.h"
#include "sememe/features/evaluation.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

TEST(ScriptSafeJson, LeavesNothingThatEndsAScript) {
  const std::string safe = script_safe_json({{"a", "</script><!-- & \xE2\x80\xA8 \xE2\x80\xA9 \xE2\x80\xA6"}});
  for (const char* const mark : {"<", ">", "&", "\xE2\x80\xA8", "\xE2\x80\xA9"}) EXPECT_EQ(safe.find(mark), std::string::npos) << mark;
  EXPECT_EQ(Json::parse(safe)["a"], "</script><!-- & \xE2\x80\xA8 \xE2\x80\xA9 \xE2\x80\xA6");
}

TEST(ScriptSafeJson, BytesThatAreNoTextBecomeTheReplacementCharacter) {
  EXPECT_EQ(Json::parse(script_safe_json({{"a", "x\xFF\xE2\x80"}}))["a"], "x\xEF\xBF\xBD\xEF\xBF\xBD");
}

RC_GTEST_PROP(ScriptSafeJson, IsTheSameValueForAnyText, ()) {
  std::string text = *rc::gen::string<std::string>();
  repair_utf8(text);
  const std::string safe = script_safe_json({{"text", text}, {text, 1}});
  RC_ASSERT(safe.find_first_of("<>&") == std::string::npos);
  RC_ASSERT(Json::parse(safe) == Json({{"text", text}, {text, 1}}));
}

/// A run with two dictionaries, evaluated and described, and one steering.
class Report : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    const auto text = write_text(folder_ / "text.txt", 40);
    run_ = folder_ / "run";
    const LanguageModel model = small_language_model();
    const TopKDictionary dictionary(perfect_weights(16), 32, Json{{"site", "blocks.0.output"}});
    for (const char* const name : {"another", "topk"}) {
      std::filesystem::create_directories(run_ / name);
      dictionary.save(run_ / name);
    }
    write_json(run_ / "topk" / "training.json",
               {{"tokens", 100}, {"loss", 0.5}, {"curve", {{{"tokens", 50}, {"loss", 0.7}}, {{"tokens", 100}, {"loss", 0.5}}}}});
    write_json(run_ / "topk-evaluation.json", evaluate_dictionary(dictionary, model, text, {.site = "blocks.0.output"}));
    describe_dictionary(dictionary, model, text, {.site = "blocks.0.output"}, run_ / "topk-description");
    write_json(run_ / "steering.json",
               {{"latent", 3}, {"dictionary", "topk"}, {"key_words", {"cat"}}, {"prompt", "the </script><b>"}, {"before", " cat"},
                {"unit", 1.5}, {"unit_meaning", "a mean"},
                {"steered", {{{"strength", 1.0}, {"after", " dog"}, {"kl", 0.2}, {"lowered", Json::array()},
                              {"raised", {{{"text", "d"}, {"before", 0.1}, {"after", 0.4}}}}}}}});
  }
  Json data() const { return report_data(find_report_sources(run_)); }
  /// What the report says after one file was changed.
  template <class Change>
  std::string message_with(const char* file, Change change) const {
    const Json good = read_json(run_ / file);
    Json changed = good;
    change(changed);
    write_json(run_ / file, changed);
    const std::string message = error_from([&] { data(); });
    write_json(run_ / file, good);
    return message;
  }

  std::filesystem::path run_;
};

TEST_F(Report, FindsWhatARunHolds) {
  const ReportSources sources = find_report_sources(run_);
  ASSERT_EQ(sources.dictionaries.size(), 2u);
  EXPECT_EQ(sources.dictionaries[0].folder.filename(), "topk");  // first: the others are held against it
  EXPECT_EQ(sources.dictionaries[0].evaluation, run_ / "topk-evaluation.json");
  EXPECT_EQ(sources.dictionaries[0].description, run_ / "topk-description");
  EXPECT_FALSE(sources.dictionaries[1].evaluation.has_value());
  EXPECT_EQ(sources.steering, std::vector<std::filesystem::path>{run_ / "steering.json"});
}

TEST_F(Report, HoldsTheNumbersOfTheFiles) {
  const Json page = data();
  const Json& dictionary = page["dictionaries"][0];
  EXPECT_EQ(dictionary["name"], "TopK");
  EXPECT_EQ(dictionary["latents"], 32);
  EXPECT_EQ(dictionary["training"]["curve"].size(), 2u);
  EXPECT_EQ(dictionary["evaluation"]["ce_recovered"], read_json(run_ / "topk-evaluation.json")["ce_recovered"]);
  EXPECT_EQ(dictionary["cards"].size(), read_json(run_ / "topk-description" / "summary.json")["clearest"].size());
  EXPECT_EQ(page["dictionaries"][1]["name"], "another");
  EXPECT_EQ(page["steering"][0]["title"], "latent 3");
  EXPECT_EQ(page["steering"][0]["steered"][0]["title"], "strength 1");
  EXPECT_EQ(page["steering"][0]["steered"][0]["raised"][0]["after"], 0.4);
  ReportSources sources = find_report_sources(run_);
  sources.cards = 2;
  EXPECT_EQ(report_data(sources)["dictionaries"][0]["cards"].size(), 2u);
  sources.cards = 0;
  EXPECT_THROW(report_data(sources), UsageError);
}

TEST_F(Report, CardsKeepTheActivationsOfTheirPassages) {
  const Json report = data();
  for (const Json& card : report["dictionaries"][0]["cards"]) {
    const LatentDescription latent = load_latent(run_ / "topk-description", card["latent"].get<int64_t>());
    ASSERT_EQ(card["examples"].size(), latent.examples.size());
    for (size_t i = 0; i < latent.examples.size(); ++i) {
      std::vector<double> activations(latent.examples[i].parts.size(), 0.0);
      for (const Json& entry : card["examples"][i]["activations"]) activations[entry[0].get<size_t>()] = entry[1].get<double>();
      EXPECT_EQ(activations, latent.examples[i].activations);
    }
  }
}

TEST_F(Report, ThePageFetchesNothing) {
  std::string page = report_page(data());
  // The name of a namespace is no address that is fetched.
  const std::string svg = "'http://www.w3.org/2000/svg'";
  for (size_t place; (place = page.find(svg)) != std::string::npos;) page.erase(place, svg.size());
  for (const char* const load : {"http://", "https://", "//cdn", "@import", "url(", "<link", " src=", "fetch(", "XMLHttpRequest",
                                 "import(", "WebSocket", "sendBeacon"})
    EXPECT_EQ(page.find(load), std::string::npos) << load;
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
}

TEST_F(Report, TheDataStandsInThePageWhole) {
  const Json wanted = data();
  const std::string page = report_page(wanted);
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  ASSERT_NE(page.find(open), std::string::npos);
  EXPECT_EQ(Json::parse(page.substr(begin, page.find("</script>", begin) - begin)), wanted);
  EXPECT_EQ(page.find("{{"), std::string::npos);
}

TEST_F(Report, TextOfTheDataIsNoMarkOfTheTemplate) {
  Json marked = data();
  marked["steering"][0]["prompt"] = "{{style}} {{script}} {{data}}";
  const std::string page = report_page(marked);
  EXPECT_NE(page.find("\"{{style}} {{script}} {{data}}\""), std::string::npos);
}

TEST_F(Report, AMissingKeyIsNamedWithItsFile) {
  EXPECT_EQ(message_with("steering.json", [](Json&) {}), "no error");
  for (const char* const key : {"tokens", "l0", "explained_variance", "ce_clean", "ce_dictionary", "ce_recovered"})
    EXPECT_TRUE(contains(message_with("topk-evaluation.json", [&](Json& json) { json.erase(key); }), {"topk-evaluation.json", key}));
  EXPECT_TRUE(contains(message_with("topk/config.json", [](Json& json) { json.erase("latents"); }), {"topk/config.json", "latents"}));
  EXPECT_TRUE(contains(message_with("topk/training.json", [](Json& json) { json["curve"][0].erase("tokens"); }),
                       {"training.json", "tokens"}));
  EXPECT_TRUE(contains(message_with("topk/training.json", [](Json& json) { json["loss"] = "low"; }), {"training.json", "loss"}));
  EXPECT_TRUE(contains(message_with("topk-description/summary.json", [](Json& json) { json.erase("clearest"); }),
                       {"summary.json", "clearest"}));
  EXPECT_TRUE(contains(message_with("steering.json", [](Json& json) { json.erase("prompt"); }), {"steering.json", "prompt"}));
  EXPECT_TRUE(contains(message_with("steering.json", [](Json& json) { json["steered"][0].erase("kl"); }), {"steering.json", "kl"}));
  EXPECT_TRUE(contains(message_with("steering.json", [](Json& json) { json["steered"] = 4; }), {"steering.json", "steered"}));
}

TEST_F(Report, ShowsEditsThatActTogether) {
  write_json(run_ / "steering.json", {{"edits", {"add 3=2", "ablate 9"}}, {"dictionary", "topk"}, {"prompt", "the"}, {"before", " cat"},
                                      {"after", " dog"}, {"kl", 0.2}, {"raised", Json::array()}, {"lowered", Json::array()}});
  const Json run = data()["steering"][0];
  EXPECT_EQ(run["title"], "add 3=2, ablate 9");
  EXPECT_EQ(run["steered"], Json::parse(R"([{"title": "edited", "after": " dog", "kl": 0.2, "raised": [], "lowered": []}])"));
}

TEST_F(Report, WhatItDoesNotKnowIsIgnored) {
  const Json before = data();
  write_file(run_ / "notes.txt", "mine");
  write_file(run_ / "other.json", "{ broken");
  std::filesystem::create_directory(run_ / "plots");
  EXPECT_EQ(message_with("topk-evaluation.json", [](Json& json) { json["from_the_future"] = {1, 2}; }), "no error");
  EXPECT_EQ(data(), before);
}

TEST_F(Report, ARunWithoutADictionaryIsAnError) {
  std::filesystem::create_directory(folder_ / "empty");
  EXPECT_TRUE(contains(error_from([&] { find_report_sources(folder_ / "empty"); }), {"empty", "holds no dictionary"}));
  EXPECT_TRUE(contains(error_from([&] { find_report_sources(folder_ / "nowhere"); }), {"nowhere", "no folder"}));
}

}  // namespace
}  // namespace sememe
