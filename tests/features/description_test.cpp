#include "sememe/features/description.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "sememe/base/random.h"
#include "sememe/features/capture.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

RC_GTEST_PROP(TransposeCodes, GivesEachLatentItsFirings, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const int64_t latents = *rc::gen::inRange<int64_t>(1, 9), parts = *rc::gen::inRange<int64_t>(1, 5);
  std::vector<SparseCodes> codes;
  std::vector<std::vector<std::pair<int32_t, float>>> wanted(latents);
  int64_t places = 0;
  for (int64_t part = 0; part < parts; ++part) {
    std::vector<int64_t> offsets{0};
    std::vector<int32_t> atoms;
    std::vector<float> values;
    const int64_t rows = *rc::gen::inRange<int64_t>(1, 6);
    for (int64_t row = 0; row < rows; ++row, ++places) {
      for (int32_t atom = 0; atom < latents; ++atom) {
        if (torch::rand(1).item<float>() < 0.6f) continue;
        atoms.push_back(atom);
        values.push_back(0.1f + torch::rand(1).item<float>());
        wanted[atom].emplace_back(static_cast<int32_t>(places), values.back());
      }
      offsets.push_back(static_cast<int64_t>(atoms.size()));
    }
    codes.push_back({torch::tensor(offsets, torch::kLong), torch::tensor(atoms, torch::kInt), torch::tensor(values, torch::kFloat)});
  }
  const Firings firings = transpose_codes(codes, latents);
  RC_ASSERT(firings.places == places);
  RC_ASSERT(firings.latents() == latents);
  for (int64_t latent = 0; latent < latents; ++latent) {
    std::vector<std::pair<int32_t, float>> found;
    for (size_t i = 0; i < firings.positions_of(latent).size(); ++i)
      found.emplace_back(firings.positions_of(latent)[i], firings.values_of(latent)[i]);
    RC_ASSERT(found == wanted[latent]);
  }
}

/// Random sentences, a context each, so that words say nothing about one another.
class HandMadeText : public ::testing::Test {
 protected:
  HandMadeText() : text_(tokenizer_) {
    RandomStream stream(1, "sentences");
    const char* const words[] = {"the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "up"};
    for (int context = 0; context < 60; ++context) {
      std::string sentence;
      for (int i = 0; i < 12; ++i) sentence += std::string(" ") + words[stream.below(10)];
      const std::vector<int32_t> ids = tokenizer_.encode(sentence);
      text_.add_context(ids);
    }
  }
  std::string word_at(int64_t position) const { return text_.spelling(TextUnit::kWord, text_.unit(TextUnit::kWord, position)); }
  /// Positions that hold the word.
  std::vector<int32_t> positions_of(const std::string& word) const {
    std::vector<int32_t> positions;
    for (int64_t i = 0; i < text_.size(); ++i)
      if (word_at(i) == word) positions.push_back(static_cast<int32_t>(i));
    return positions;
  }
  std::vector<int32_t> random_positions(uint64_t of_hundred) const {
    RandomStream stream(2, "firings");
    std::vector<int32_t> positions;
    for (int64_t i = 0; i < text_.size(); ++i)
      if (stream.below(100) < of_hundred) positions.push_back(static_cast<int32_t>(i));
    return positions;
  }
  /// A description of one latent that fires at these places.
  LatentDescription described(const std::vector<int32_t>& positions, const std::vector<float>& values) const {
    const Firings firings{text_.size(), {0, static_cast<int64_t>(positions.size())}, positions, values};
    return describe_latent(0, text_, firings, 1);
  }
  std::vector<float> random_values(size_t count) const {
    RandomStream stream(3, "values");
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(0.1 + stream.uniform());
    return values;
  }

  Tokenizer tokenizer_ = testing::small_tokenizer();
  DescribedText text_;
};

TEST_F(HandMadeText, ALatentOfOneWordIsClear) {
  EXPECT_NEAR(clarity_of(text_, positions_of("cat")).value(), 1.0, 1e-9);
}

TEST_F(HandMadeText, ALatentOfSeveralWordsIsClear) {
  std::vector<int32_t> positions = positions_of("cat");
  for (const int32_t position : positions_of("dog")) positions.push_back(position);
  std::sort(positions.begin(), positions.end());
  EXPECT_NEAR(clarity_of(text_, positions).value(), 1.0, 1e-9);
}

TEST_F(HandMadeText, ALatentOfOneTokenWithinAWordIsClear) {
  std::vector<int32_t> positions;  // "ran" is the only word with an r, and has tokens without it
  for (int64_t i = 0; i < text_.size(); ++i)
    if (text_.spelling(TextUnit::kToken, text_.unit(TextUnit::kToken, i)).find('r') != std::string::npos)
      positions.push_back(static_cast<int32_t>(i));
  ASSERT_LT(positions.size(), positions_of("ran").size());
  EXPECT_NEAR(clarity_of(text_, positions).value(), 1.0, 1e-9);
}

TEST_F(HandMadeText, ALatentThatFiresAtRandomIsAsClearAsItIsDense) {
  for (const uint64_t of_hundred : {10, 40}) {
    const double clarity = clarity_of(text_, random_positions(of_hundred)).value();
    EXPECT_NEAR(clarity, static_cast<double>(of_hundred) / 100.0, 0.08);
  }
}

TEST_F(HandMadeText, ALatentOfHalfTheWordsPlacesIsInBetween) {
  std::vector<int32_t> half;
  RandomStream stream(4, "half");
  for (const int32_t position : positions_of("mat"))
    if (stream.below(2) == 0) half.push_back(position);
  EXPECT_NEAR(clarity_of(text_, half).value(), 0.5, 0.15);
}

TEST_F(HandMadeText, ClarityIsForetoldFromTheOtherHalf) {
  // One word in even contexts, another in odd ones: what one half says is worth nothing in the other.
  std::vector<int32_t> positions;
  for (int64_t i = 0; i < text_.size(); ++i)
    if (word_at(i) == (text_.half(i) == 0 ? "cat" : "dog")) positions.push_back(static_cast<int32_t>(i));
  EXPECT_LT(clarity_of(text_, positions).value(), 0.2);
}

TEST_F(HandMadeText, TooFewFiringsHaveNoClarity) {
  std::vector<int32_t> few;
  int64_t odd = 0;
  for (const int32_t position : positions_of("cat"))
    if (text_.half(position) == 0 || ++odd <= 7) few.push_back(position);
  EXPECT_FALSE(clarity_of(text_, few).has_value());
  EXPECT_FALSE(clarity_of(text_, {}).has_value());
}

TEST_F(HandMadeText, NothingIsClaimedThatWasNotCounted) {
  const std::vector<int32_t> positions = positions_of("cat");
  const std::vector<float> values = random_values(positions.size());
  const LatentDescription latent = described(positions, values);
  EXPECT_EQ(latent.firings, static_cast<int64_t>(positions.size()));
  EXPECT_DOUBLE_EQ(latent.density, static_cast<double>(positions.size()) / static_cast<double>(text_.size()));
  ASSERT_EQ(latent.key_words.size(), 1u);
  EXPECT_EQ(latent.key_words[0].text, "cat");
  EXPECT_EQ(latent.key_words[0].firings, latent.firings);
  EXPECT_EQ(latent.key_words[0].occurrences, latent.firings);
  EXPECT_EQ(latent.maximum, *std::max_element(values.begin(), values.end()));
  EXPECT_NEAR(latent.mean, std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size()), 1e-9);
  EXPECT_EQ(std::accumulate(latent.histogram.begin(), latent.histogram.end(), int64_t{0}), latent.firings);
  // 99 of 100 firings are at most the typical maximum.
  const auto above = std::count_if(values.begin(), values.end(), [&](float value) { return value > latent.typical_maximum; });
  EXPECT_LE(static_cast<double>(above), 0.01 * static_cast<double>(values.size()));
  std::map<std::string, double> tokens;
  for (const int32_t position : positions) tokens[text_.spelling(TextUnit::kToken, text_.unit(TextUnit::kToken, position))] += 1.0;
  for (const DescribedToken& token : latent.fires_on)
    EXPECT_NEAR(token.value, tokens.at(token.text) / static_cast<double>(positions.size()), 1e-12) << token.text;
}

TEST_F(HandMadeText, WordsBeforeAFiringAreCountedAtTheirPlaces) {
  // Fires on the token after each word "mat", within the same context.
  std::vector<int32_t> positions;
  for (int64_t i = 1; i < text_.size(); ++i)
    if (word_at(i - 1) == "mat" && word_at(i) != "mat" && text_.context(i) == text_.context(i - 1))
      positions.push_back(static_cast<int32_t>(i));
  const LatentDescription latent = described(positions, random_values(positions.size()));
  ASSERT_FALSE(latent.context_words.empty());
  EXPECT_EQ(latent.context_words[0].text, "mat");
  int64_t near = 0;
  for (const int32_t place : positions_of("mat"))
    near += std::any_of(positions.begin(), positions.end(), [&](int32_t position) {
      return position > place && position - place <= 8 && text_.context(position) == text_.context(place);
    });
  EXPECT_EQ(latent.context_words[0].firings, near);
  EXPECT_EQ(latent.context_words[0].occurrences, static_cast<int64_t>(positions_of("mat").size()));
}

TEST_F(HandMadeText, ExamplesArePeaksOfTheirGroups) {
  const std::vector<int32_t> positions = random_positions(30);
  const std::vector<float> values = random_values(positions.size());
  // Peaks by their definition: none stronger from 24 tokens before to 12 after.
  std::vector<float> peaks;
  for (size_t i = 0; i < positions.size(); ++i) {
    bool peak = true;
    for (size_t j = 0; j < positions.size(); ++j)
      if (text_.context(positions[j]) == text_.context(positions[i]) && positions[j] >= positions[i] - 24 &&
          positions[j] <= positions[i] + 12)
        peak = peak && values[j] <= values[i];
    if (peak) peaks.push_back(values[i]);
  }
  std::sort(peaks.begin(), peaks.end(), std::greater<>());
  const LatentDescription latent = described(positions, values);
  std::map<std::string, std::vector<double>> groups;
  for (const Example& example : latent.examples) {
    EXPECT_EQ(example.activations[example.peak], example.activation);
    EXPECT_EQ(example.activation, *std::max_element(example.activations.begin(), example.activations.end()));
    EXPECT_NE(std::find(peaks.begin(), peaks.end(), static_cast<float>(example.activation)), peaks.end());
    groups[example.group].push_back(example.activation);
  }
  ASSERT_EQ(groups["top"].size(), 6u);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(static_cast<float>(groups["top"][i]), peaks[i]);
  for (const auto& [name, quantile] : {std::pair{"75%", 0.75}, {"50%", 0.5}, {"25%", 0.25}}) {
    ASSERT_EQ(groups[name].size(), 3u) << name;
    for (const double activation : groups[name]) {
      const auto rank = std::find(peaks.begin(), peaks.end(), static_cast<float>(activation)) - peaks.begin();
      const double count = static_cast<double>(peaks.size());
      EXPECT_NEAR(static_cast<double>(rank) / count, 1.0 - quantile, 0.1 + 1.0 / count);
    }
  }
}

TEST_F(HandMadeText, ADeadLatentIsDescribedAsSuch) {
  const LatentDescription latent = described({}, {});
  EXPECT_EQ(latent.firings, 0);
  EXPECT_EQ(latent.density, 0.0);
  EXPECT_EQ(latent.maximum, 0.0);
  EXPECT_FALSE(latent.clarity.has_value());
  EXPECT_TRUE(latent.key_words.empty() && latent.context_words.empty() && latent.fires_on.empty() && latent.examples.empty());
}

class DescriptionFolder : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    text_ = write_text(folder_ / "text.txt", 40);
  }
  DescriptionOptions options() const { return {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 60}; }
  Json describe(const Dictionary& dictionary) { return describe_dictionary(dictionary, model_, text_, options(), folder_ / "d"); }
  std::string message(int64_t latent) {
    return error_from([&] { load_latent(folder_ / "d", latent); });
  }

  LanguageModel model_ = small_language_model();
  std::filesystem::path text_;
};

TEST_F(DescriptionFolder, SaysWhatTheDictionaryDoesOnTheText) {
  const TopKDictionary dictionary(perfect_weights(16), 32, Json::object());
  const Json summary = describe(dictionary);
  capture(model_, text_, {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 60, .half = false}, folder_ / "rows");
  const ActivationStore store = ActivationStore::open(folder_ / "rows");
  const torch::Tensor rows = store.read(0, store.rows()).activations;
  EXPECT_EQ(summary["tokens"].get<int64_t>(), store.rows());
  EXPECT_EQ(summary["latents"], 32);
  const torch::Tensor z = torch::mm(rows, dictionary.atoms().t()).relu();
  for (int64_t latent = 0; latent < 32; ++latent) {
    const LatentDescription description = load_latent(folder_ / "d", latent);
    EXPECT_EQ(description.latent, latent);
    EXPECT_EQ(description.firings, (z.select(1, latent) > 0).sum().item<int64_t>());
    const double maximum = z.select(1, latent).max().item<double>();
    EXPECT_NEAR(description.maximum, maximum, 1e-3 * maximum);
    ASSERT_EQ(description.nearest.size(), 5u);
    for (const NearLatent& near : description.nearest) {
      EXPECT_NE(near.latent, latent);
      EXPECT_NEAR(near.cosine, dictionary.atoms()[latent].dot(dictionary.atoms()[near.latent]).item<double>(), 1e-3);
      EXPECT_GE(near.cosine, -1e-3);  // the opposite atom is the farthest, not the nearest
    }
    EXPECT_EQ(description.promoted.size(), 8u);
  }
  EXPECT_EQ(read_json(folder_ / "d" / "summary.json"), summary);
}

TEST_F(DescriptionFolder, PromotedTokensAreThoseOfTheLogitLens) {
  const torch::NoGradGuard no_autograd;
  const TopKDictionary dictionary(perfect_weights(16), 32, Json::object());
  DescriptionOptions norm = options();
  norm.site = "norm";  // what the head reads, as it is
  describe_dictionary(dictionary, model_, text_, norm, folder_ / "d");
  const torch::Tensor logits = torch::mv(model_.network->head().narrow(0, 0, model_.tokenizer.size()), dictionary.atoms()[3]);
  const LatentDescription latent = load_latent(folder_ / "d", 3);
  EXPECT_NEAR(latent.promoted[0].value, logits.max().item<double>(), 1e-3 * std::abs(logits.max().item<double>()));
  EXPECT_NEAR(latent.suppressed[0].value, logits.min().item<double>(), 1e-3 * std::abs(logits.min().item<double>()));
  DescriptionOptions hidden = options();
  hidden.site = "blocks.0.mlp.act";  // a basis of its own: the head does not read it
  describe_dictionary(TopKDictionary(perfect_weights(20), 40, Json::object()), model_, text_, hidden, folder_ / "hidden");
  EXPECT_TRUE(load_latent(folder_ / "hidden", 3).promoted.empty());
}

TEST_F(DescriptionFolder, ASilentDictionaryIsDeadThroughout) {
  const Json summary = describe(TopKDictionary(silent_weights(16), 2, Json::object()));
  EXPECT_EQ(summary["dead"], 4);
  EXPECT_EQ(summary["latents_with_clarity"], 0);
  EXPECT_TRUE(summary["median_clarity"].is_null());
  EXPECT_EQ(load_latent(folder_ / "d", 3).firings, 0);
}

TEST_F(DescriptionFolder, IsTheSameOnEachRun) {
  const TopKDictionary dictionary(perfect_weights(16), 32, Json::object());
  describe(dictionary);
  describe_dictionary(dictionary, model_, text_, options(), folder_ / "again");
  EXPECT_EQ(read_file(folder_ / "d" / "latents.jsonl"), read_file(folder_ / "again" / "latents.jsonl"));
}

TEST_F(DescriptionFolder, ClearestLatentsStandFirst) {
  const Json summary = describe(TopKDictionary(perfect_weights(16), 32, Json::object()));
  double last = 2.0;
  for (const Json& latent : summary["clearest"]) {
    const double clarity = load_latent(folder_ / "d", latent.get<int64_t>()).clarity.value();
    EXPECT_LE(clarity, last);
    last = clarity;
  }
  EXPECT_LT(last, 2.0);
}

TEST_F(DescriptionFolder, ALatentBeyondTheEndIsAUsageError) {
  describe(TopKDictionary(silent_weights(16), 2, Json::object()));
  EXPECT_THROW(load_latent(folder_ / "d", 4), UsageError);
  EXPECT_THROW(load_latent(folder_ / "d", -1), UsageError);
  EXPECT_TRUE(contains(message(4), {"latent 4", "0 to 3"}));
}

TEST_F(DescriptionFolder, LatentsSurviveJson) {
  describe(TopKDictionary(perfect_weights(16), 32, Json::object()));
  const LatentDescription latent = load_latent(folder_ / "d", 5);
  EXPECT_EQ(LatentDescription::from_json(latent.to_json(), "x").to_json(), latent.to_json());
}

TEST_F(DescriptionFolder, MalformedLinesAreNamed) {
  describe(TopKDictionary(perfect_weights(16), 32, Json::object()));
  const Json good = load_latent(folder_ / "d", 0).to_json();
  const auto message_with = [&](auto change) {
    Json changed = good;
    change(changed);
    write_file(folder_ / "d" / "latents.jsonl", changed.dump() + "\n");
    return message(0);
  };
  EXPECT_EQ(message_with([](Json&) {}), "no error");
  EXPECT_TRUE(contains(message_with([](Json& json) { json.erase("density"); }), {"latents.jsonl:1", "density"}));
  EXPECT_TRUE(contains(message_with([](Json& json) { json["firings"] = "many"; }), {"latents.jsonl:1", "firings"}));
  EXPECT_TRUE(contains(message_with([](Json& json) { json["latent"] = 7; }), {"latents.jsonl:1", "latent 7"}));
  EXPECT_TRUE(contains(message_with([](Json& json) { json["examples"][0]["peak"] = 99; }), {"latents.jsonl:1", "peak"}));
  EXPECT_TRUE(contains(message_with([](Json& json) { json["examples"][0]["activations"] = Json::array(); }), {"latents.jsonl:1"}));
  EXPECT_TRUE(contains(message_with([](Json& json) { json["key_words"] = 3; }), {"latents.jsonl:1", "key_words"}));
}

TEST_F(DescriptionFolder, WrongRequestsAreRefused) {
  const TopKDictionary narrow(silent_weights(5), 2, Json::object()), fits(silent_weights(16), 2, Json::object());
  EXPECT_TRUE(contains(error_from([&] { describe(narrow); }), {"width 5", "width 16"}));
  DescriptionOptions nowhere = options();
  nowhere.site = "nowhere";
  EXPECT_THROW(describe_dictionary(fits, model_, text_, nowhere, folder_ / "d"), UsageError);
  std::filesystem::create_directory(folder_ / "mine");
  write_file(folder_ / "mine" / "thesis.txt", "mine");
  EXPECT_TRUE(contains(error_from([&] { describe_dictionary(fits, model_, text_, options(), folder_ / "mine"); }), {"mine"}));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "mine" / "thesis.txt"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "d"));
}

TEST_F(DescriptionFolder, IsFoundAtOrBesideTheDictionary) {
  for (const char* const place : {"one", "two/description", "three-description"}) {
    std::filesystem::create_directories(folder_ / place);
    write_file(folder_ / place / "latents.jsonl", "");
  }
  EXPECT_EQ(find_description(folder_ / "one"), folder_ / "one");
  EXPECT_EQ(find_description(folder_ / "two"), folder_ / "two" / "description");
  EXPECT_EQ(find_description(folder_ / "three"), folder_ / "three-description");
  EXPECT_EQ(find_description(folder_ / "three" / ""), folder_ / "three-description");
  EXPECT_EQ(find_description(folder_ / "four"), std::nullopt);
}

}  // namespace
}  // namespace sememe
