#include "sememe/language/training.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <thread>
#include <tuple>

#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/formats/safetensors.h"
#include "sememe/language/evaluation.h"
#include "sememe/language/language_model.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;
using testing::expect_words;
using testing::message_of;

struct Training : testing::WithFolder {
  Training() {
    set_quiet(true);
    torch::set_num_threads(1);
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("the cat {} sat on the mat and the dog {} sat on the cat\n", i * 7, i * 13);
    write_file(folder / "train.txt", text);
    write_file(folder / "heldout.txt", "the dog 5 sat on the mat and the cat 11 sat on the dog\n");
    recipe = {{"corpus", {{"train", "train.txt"}, {"heldout", "heldout.txt"}}},
              {"tokenizer", {{"vocabulary", 270}}},
              {"network", {{"layers", 1}, {"width", 16}, {"heads", 2}, {"context", 16}}},
              {"training", {{"tokens", 3200}, {"batch_tokens", 64}}}};
  }

  Recipe load() const {
    write_json(place, recipe);
    return Recipe::load(place);
  }

  /// The message with which the recipe is refused, which must name the file.
  std::string refusal(const Json& json) const {
    write_json(place, json);
    const std::string message = message_of([&] { Recipe::load(place); });
    expect_words(message, {place.string()});
    return message;
  }

  /// What `member` of `section` set to `value` gives.
  std::string refusal(const char* section, const char* member, const Json& value) const {
    Json json = recipe;
    json[section][member] = value;
    return refusal(json);
  }

  /// Starts a run that is interrupted when the file `after` has come (at once where there is none), in a process of its own: a
  /// caught signal cannot be taken back.
  void interrupt(const Recipe& wanted, const fs::path& target, bool resume, const fs::path& after) const {
    EXPECT_EXIT(
        {
          catch_interrupts();
          if (after.empty()) std::raise(SIGINT);
          if (!after.empty())
            std::thread([&] {
              while (!fs::exists(after)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
              std::raise(SIGINT);
            }).detach();
          try {
            train_language_model(wanted, target, resume);
          } catch (const Interrupted& stop) {
            std::_Exit(0);
          }
          std::_Exit(3);
        },
        ::testing::ExitedWithCode(0), "");
  }

  std::string weights(const fs::path& model) const { return read_file(model / "model.safetensors"); }

  fs::path place = folder / "recipe.json", out = folder / "model";
  Json recipe;
};

TEST_F(Training, ASmallRecipeGivesAModelThatPredictsBetterThanChance) {
  const Json report = train_language_model(load(), out, false);
  EXPECT_EQ(report, read_json(out / "training.json"));
  EXPECT_EQ(report.at("tokens"), 3200);
  EXPECT_EQ(report.at("loss").size(), 50u);
  EXPECT_LT(report.at("heldout_nats_per_token").get<double>(), 0.8 * std::log(270.0));
  EXPECT_EQ(Recipe::load(place).to_json(), read_json(out / "recipe.json"));
  const LanguageModel model = LanguageModel::load(out);
  EXPECT_EQ(SafetensorsFile(out / "model.safetensors").tensors().at(0).dtype, DType::kF16);
  const TextLoss heldout = evaluate(model, open_corpus(folder / "heldout.txt"));  // the figures are the saved weights'
  EXPECT_DOUBLE_EQ(report.at("heldout_bits_per_byte").get<double>(), heldout.bits_per_byte());
  EXPECT_FALSE(fs::exists(folder / "model.work"));
}

TEST_F(Training, TheSameRecipeGivesTheSameModelAndAnotherSeedAnother) {
  train_language_model(load(), folder / "one", false);
  train_language_model(load(), folder / "two", false);
  recipe["seed"] = 2;
  train_language_model(load(), folder / "three", false);
  EXPECT_TRUE(weights(folder / "one") == weights(folder / "two"));
  EXPECT_FALSE(weights(folder / "one") == weights(folder / "three"));
}

TEST_F(Training, BothFamiliesAreTrained) {
  recipe["network"]["family"] = "gpt2";
  recipe["training"]["tokens"] = 320;
  train_language_model(load(), out, false);
  EXPECT_EQ(LanguageModel::load(out).network->config().positions, Positions::kLearned);
}

TEST_F(Training, AnInterruptedRunLeavesNoModelAndResumesToTheSameWeights) {
  recipe["training"]["tokens"] = 64 * 600;  // long enough for the signal to come in between
  const Recipe wanted = load();
  train_language_model(wanted, folder / "unbroken", false);
  interrupt(wanted, out, false, folder / "model.work" / "tokens.bin");
  EXPECT_FALSE(fs::exists(out));
  const fs::path place = folder / "model.work" / "checkpoint" / "state.json";
  Json state = read_json(place);
  EXPECT_GT(state.at("step"), 0);
  EXPECT_LT(state.at("step"), 600);
  state["seconds"] = 5000;  // by which the report shows that the run went on from there
  write_json(place, state);
  const Json report = train_language_model(wanted, out, true);
  EXPECT_GT(report.at("seconds"), 5000);
  EXPECT_TRUE(weights(out) == weights(folder / "unbroken"));
  EXPECT_EQ(read_json(out / "training.json").at("loss"), read_json(folder / "unbroken" / "training.json").at("loss"));
  EXPECT_FALSE(fs::exists(folder / "model.work"));
}

TEST_F(Training, AFolderNameThatEndsInASlashCanBeInterruptedAndResumed) {
  const Recipe wanted = load();
  const fs::path completed = out.string() + "/";  // as a shell completes it
  interrupt(wanted, completed, false, {});
  EXPECT_FALSE(fs::exists(out));
  EXPECT_TRUE(fs::exists(folder / "model.work"));
  train_language_model(wanted, completed, true);
  EXPECT_NO_THROW(LanguageModel::load(out));
}

TEST_F(Training, ResumingARunOfAnotherRecipeIsRefused) {
  interrupt(load(), out, false, {});
  recipe["training"]["learning_rate"] = 0.001;
  const Recipe other = load();
  expect_words(message_of([&] { train_language_model(other, out, true); }), {"model.work", "another recipe", "--resume"});
  write_file(folder / "model.work" / "tokens.bin", "of another text");
  train_language_model(other, out, false);  // begins anew
  EXPECT_EQ(read_json(out / "recipe.json"), other.to_json());
}

TEST_F(Training, AFolderOfOtherThingsIsNotReplaced) {
  fs::create_directories(out);
  write_file(out / "thesis.txt", "years of work");
  expect_words(message_of([&] { train_language_model(load(), out, false); }), {out.string()});
  EXPECT_EQ(read_file(out / "thesis.txt"), "years of work");
  EXPECT_FALSE(fs::exists(folder / "model.work"));
}

TEST_F(Training, ATextTooShortForTheContextIsAnErrorThatLeavesNoModel) {
  write_file(folder / "train.txt", "the cat sat on the mat");
  recipe["tokenizer"]["vocabulary"] = 257;
  expect_words(message_of([&] { train_language_model(load(), out, false); }), {"too few", "context of 16"});
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(Training, BatchesVocabulariesAndTokensThatCannotBeAreWrongUsage) {
  for (const auto& [section, member, value] : {std::tuple{"training", "batch_tokens", 60}, {"training", "batch_tokens", 8},
                                               {"training", "batch_tokens", -64}, {"training", "tokens", 0},
                                               {"training", "tokens", -5}, {"tokenizer", "vocabulary", 256}}) {
    const Json good = recipe;
    recipe[section][member] = value;
    const Recipe wanted = load();
    EXPECT_THROW(train_language_model(wanted, out, false), UsageError) << member << " " << value;
    EXPECT_FALSE(fs::exists(folder / "model.work"));
    recipe = good;
  }
}

TEST_F(Training, ARecipeComesBackFromItsJson) {
  recipe["network"] = {{"family", "llama"},     {"context", 32},     {"width", 24}, {"layers", 3},        {"heads", 4},
                       {"key_value_heads", 2},  {"head_width", 8},   {"feed_forward_width", 40}, {"tied_head", false},
                       {"norm_epsilon", 1e-4}, {"rotary_base", 500.0}, {"activation", "relu"}};
  recipe["training"] = {{"tokens", 1000}, {"batch_tokens", 64},       {"matrix_learning_rate", 0.1}, {"learning_rate", 0.2},
                        {"clip", 0.5},    {"weight_decay", 0.3}, {"warmup_fraction", 0.2},      {"decay_fraction", 0.7}};
  recipe["seed"] = 9;
  EXPECT_EQ(load().to_json(), recipe);
  EXPECT_EQ(load().network.feed_forward, FeedForward::kGatedRelu);
}

TEST_F(Training, MembersLeftOutHaveTheDocumentedValues) {
  recipe = {{"corpus", "corpus.json"}, {"network", {{"width", 40}, {"heads", 2}}}};
  const Recipe read = load();
  EXPECT_EQ(read.corpus, folder / "corpus.json");
  EXPECT_EQ(read.network.vocabulary, 4096);
  EXPECT_EQ(read.network.head_width, 20);
  EXPECT_EQ(read.network.key_value_heads, 2);
  EXPECT_EQ(read.network.feed_forward_width, 120);
  EXPECT_EQ(read.seed, 1u);
}

TEST_F(Training, UnknownMembersOfARecipeAreRefusedByNameWithThoseThereAre) {
  Json top = recipe;
  top["sede"] = 1;
  expect_words(refusal(top), {"\"sede\"", "seed"});
  expect_words(refusal("network", "widht", 8), {"network", "\"widht\"", "width"});
  expect_words(refusal("network", "activation", "tanh"), {"network", "\"tanh\"", "relu"});
  expect_words(refusal("training", "token", 8), {"training", "\"token\"", "batch_tokens"});
  expect_words(refusal("tokenizer", "size", 8), {"tokenizer", "\"size\"", "vocabulary"});
  expect_words(refusal("corpus", "test", "a"), {"corpus", "\"test\"", "heldout"});
}

TEST_F(Training, MembersOfTheWrongTypeAreRefusedByName) {
  for (const char* const member : {"family", "context", "width", "layers", "heads", "key_value_heads", "head_width",
                                   "feed_forward_width", "tied_head", "norm_epsilon", "rotary_base", "activation"})
    expect_words(refusal("network", member, Json::array()), {"network", member});
  for (const char* const member : {"tokens", "batch_tokens", "matrix_learning_rate", "learning_rate", "weight_decay", "clip",
                                   "warmup_fraction", "decay_fraction"})
    expect_words(refusal("training", member, "much"), {"training", member});
  for (const char* const section : {"network", "training", "tokenizer", "corpus"}) {
    for (const Json& wrong : {Json(3), Json::array(), Json()}) {
      Json json = recipe;
      json[section] = wrong;
      expect_words(refusal(json), {section});
    }
  }
  Json without = recipe;
  without.erase("corpus");
  expect_words(refusal(without), {"\"corpus\""});
  refusal(Json::array());
  refusal("corpus", "train", 3);
}

TEST_F(Training, NetworksThatCannotBeAreRefusedBeforeAnyWork) {
  expect_words(refusal("network", "context", 0), {"network", "context"});
  expect_words(refusal("network", "heads", 0), {"network", "heads"});
  expect_words(refusal("network", "width", -16), {"network", "width"});
  expect_words(refusal("network", "key_value_heads", 3), {"network", "key_value_heads"});
  expect_words(refusal("network", "head_width", 5), {"network", "head_width"});
  expect_words(refusal("network", "family", "mamba"), {"network", "mamba", "gpt2"});
}

}  // namespace
}  // namespace sememe
