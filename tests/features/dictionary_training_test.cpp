#include "sememe/features/dictionary_training.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <memory>

#include "sememe/base/interrupt.h"
#include "sememe/network/tensors.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

const DictionaryTrainingOptions kFortySteps{
    .architecture = "gsae", .latents = 64, .k = 4, .tokens = 20000, .batch = 500, .dead_after = 1500};

class TrainingFolder : public ScratchFolder {
 protected:
  /// Sums of few of `atoms` unit directions, with gradients.
  ActivationStore planted(int64_t rows, int64_t atoms, int64_t width, double density) {
    torch::manual_seed(11);
    directions_ = torch::nn::functional::normalize(torch::randn({atoms, width}));
    const torch::Tensor codes = (torch::rand({rows, atoms}) < density) * (torch::rand({rows, atoms}) + 0.5);
    save_tensors(folder_ / "x.safetensors",
                 {{"activations", torch::mm(codes, directions_)}, {"gradients", torch::randn({rows, width})}});
    return ActivationStore::open(folder_ / "x.safetensors");
  }
  ActivationStore small() { return planted(5000, 64, 24, 0.03); }
  std::string weights(const char* name) { return read_file(folder_ / name / "dictionary.safetensors"); }
  std::string message(const ActivationStore& store, const DictionaryTrainingOptions& options) {
    return error_from([&] { train_dictionary(store, options, folder_ / "d"); });
  }

  torch::Tensor directions_;
};

/// Trains in another process, since the flag of an interrupt stays set: every run ends after one step and the next goes on from its
/// checkpoint. The last one is left at d.checkpoint.
class InterruptedTraining : public TrainingFolder {
 protected:
  void SetUp() override {
    TrainingFolder::SetUp();
    store_ = std::make_unique<ActivationStore>(small());
  }
  /// @param undone runs more, of which each ends within its step
  void interrupt_until(int64_t step, int64_t undone = 0) {
    ::testing::FLAGS_gtest_death_test_style = "threadsafe";
    setenv("INTERRUPTED_TRAINING", (folder_ / "d.checkpoint").c_str(), 0);  // the other process has another folder
    EXPECT_EXIT(leave_checkpoint(step, undone), ::testing::ExitedWithCode(0), "");
    unsetenv("INTERRUPTED_TRAINING");
    ASSERT_TRUE(std::filesystem::exists(folder_ / "d.checkpoint"));
  }
  [[noreturn]] void leave_checkpoint(int64_t last, int64_t undone) {
    catch_interrupts();
    std::raise(SIGINT);
    for (int64_t run = 1; run <= last + undone; ++run)
      if (!contains(message(*store_, resumed()), {fmt::format("interrupted at step {} of ", std::min(run, last)), "--resume"})) std::exit(1);
    const bool left = std::filesystem::exists(folder_ / "d");
    std::filesystem::rename(folder_ / "d.checkpoint", std::getenv("INTERRUPTED_TRAINING"));
    std::filesystem::remove_all(folder_);
    std::exit(left ? 2 : 0);
  }
  DictionaryTrainingOptions resumed() const {
    DictionaryTrainingOptions options = options_;
    options.resume = true;
    return options;
  }
  void expect_the_same_as_uninterrupted() {
    const Json result = train_dictionary(*store_, resumed(), folder_ / "d");
    EXPECT_FALSE(std::filesystem::exists(folder_ / "d.checkpoint"));
    const Json whole = train_dictionary(*store_, options_, folder_ / "whole");
    EXPECT_EQ(weights("whole"), weights("d"));
    EXPECT_EQ(read_file(folder_ / "whole" / "config.json"), read_file(folder_ / "d" / "config.json"));
    for (const char* const key : {"loss", "fvu", "l0", "dead", "curve"}) EXPECT_EQ(whole[key], result[key]) << key;
  }

  DictionaryTrainingOptions options_ = kFortySteps;
  std::unique_ptr<ActivationStore> store_;
};

TEST_F(TrainingFolder, FindsPlantedDirections) {
  const ActivationStore store = planted(40000, 128, 32, 0.02);
  const Json result = train_dictionary(store, {.latents = 256, .k = 4, .tokens = 400000, .batch = 512}, folder_ / "d");
  const torch::Tensor atoms = load_dictionary(folder_ / "d")->atoms();
  EXPECT_GT(std::get<0>(torch::mm(directions_, atoms.t()).max(1)).mean().item<double>(), 0.95);
  EXPECT_LT(result["fvu"].get<double>(), 0.2);
}

TEST_F(TrainingFolder, AuxKKeepsLatentsAlive) {
  // Where a few directions carry most of the variance, latents that begin elsewhere are never selected by themselves.
  const ActivationStore store = planted(30000, 256, 32, 0.01);
  torch::Tensor rows = store.read(0, 30000).activations;
  rows.narrow(1, 0, 4).mul_(6.0);
  save_tensors(folder_ / "flat.safetensors", {{"activations", rows + 2.0}});
  const auto dead = [&](int64_t auxiliary_k) {
    return train_dictionary(ActivationStore::open(folder_ / "flat.safetensors"),
                            {.latents = 256, .k = 3, .tokens = 200000, .batch = 512, .auxiliary_k = auxiliary_k, .dead_after = 10000},
                            folder_ / "d")["dead"].get<int64_t>();
  };
  const int64_t without = dead(0), with = dead(-1);
  EXPECT_GT(without, 50);
  EXPECT_LT(with, without / 2);
}

TEST_F(TrainingFolder, IsTheSameOnEachRun) {
  const ActivationStore store = small();
  train_dictionary(store, kFortySteps, folder_ / "a");
  train_dictionary(store, kFortySteps, folder_ / "b");
  EXPECT_EQ(weights("a"), weights("b"));
  DictionaryTrainingOptions other = kFortySteps;
  other.seed = 2;
  train_dictionary(store, other, folder_ / "c");
  EXPECT_NE(weights("a"), weights("c"));
}

TEST_F(InterruptedTraining, EndsInTheSameDictionary) {
  interrupt_until(39);
  expect_the_same_as_uninterrupted();
}

TEST_F(InterruptedTraining, DrawsTheSameCurve) {
  options_.batch = 50;  // 400 steps are 200 points, and 31 end within one
  interrupt_until(31);
  expect_the_same_as_uninterrupted();
}

TEST_F(InterruptedTraining, EndsInTheSameKMeans) {
  options_ = {.architecture = "kmeans", .latents = 64, .tokens = 20000, .batch = 500, .dead_after = 1500};
  interrupt_until(20);
  expect_the_same_as_uninterrupted();
}

TEST_F(InterruptedTraining, EndsInTheSamePrincipalComponents) {
  options_ = {.architecture = "pca", .latents = 32, .k = 4, .tokens = 20000, .batch = 500};
  interrupt_until(20);
  expect_the_same_as_uninterrupted();
}

TEST_F(InterruptedTraining, EndsInTheSameIndependentComponentsWhereFastIcaItselfWasInterrupted) {
  options_ = {.architecture = "ica", .latents = 32, .k = 4, .tokens = 20000, .batch = 500};
  interrupt_until(38, 2);
  expect_the_same_as_uninterrupted();
}

TEST_F(TrainingFolder, ResumingWithoutACheckpointStartsAnew) {
  const ActivationStore store = small();
  DictionaryTrainingOptions options = kFortySteps;
  train_dictionary(store, options, folder_ / "whole");
  options.resume = true;
  train_dictionary(store, options, folder_ / "d");
  EXPECT_EQ(weights("whole"), weights("d"));
}

TEST_F(InterruptedTraining, IsNotResumedWithOtherSettings) {
  interrupt_until(3);
  const auto refused = [&](auto change, const char* key) {
    DictionaryTrainingOptions other = resumed();
    change(other);
    return contains(message(*store_, other), {"d.checkpoint", key, "without --resume"});
  };
  EXPECT_TRUE(refused([](auto& other) { other.k = 5; }, "k 4, not 5"));
  EXPECT_TRUE(refused([](auto& other) { other.seed = 9; }, "seed 1, not 9"));
  EXPECT_TRUE(refused([](auto& other) { other.architecture = "topk"; }, "architecture"));
  EXPECT_TRUE(refused([](auto& other) { other.batch = 250; }, "batch"));
  EXPECT_TRUE(refused([](auto& other) { other.gradient.beta = 0.5; }, "beta"));
  EXPECT_TRUE(refused([](auto& other) { other.learning_rate = 0.1; }, "learning_rate"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "d"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "d.checkpoint"));
}

TEST_F(InterruptedTraining, NamesADamagedCheckpoint) {
  interrupt_until(3);
  const SafetensorsFile good(folder_ / "d.checkpoint");
  const Json state = parse_json(good.metadata().at("sememe"), "state");
  NamedTensors tensors;
  for (const TensorView& view : good.tensors()) tensors.emplace_back(view.name, load_tensor(good, view.name));
  const auto message_with = [&](const char* key, const Json& value) {
    Json changed = state;
    changed[key] = value;
    save_tensors(folder_ / "d.checkpoint", tensors, {{"sememe", changed.dump()}});
    return message(*store_, resumed());
  };
  EXPECT_TRUE(contains(message_with("position", {0, 0}), {"d.checkpoint", "position"}));
  EXPECT_TRUE(contains(message_with("position", {-1, 0, 0}), {"d.checkpoint", "position"}));
  EXPECT_TRUE(contains(message_with("position", {0, -7, 0}), {"d.checkpoint", "position"}));
  EXPECT_TRUE(contains(message_with("position", {0, 0, -7}), {"d.checkpoint", "position"}));
  EXPECT_TRUE(contains(message_with("step", 41), {"d.checkpoint", "step"}));
  EXPECT_TRUE(contains(message_with("step", "3"), {"d.checkpoint", "step"}));
  EXPECT_TRUE(contains(message_with("settings", Json()), {"d.checkpoint", "settings"}));
  EXPECT_TRUE(contains(message_with("settings", Json::object()), {"d.checkpoint", "architecture"}));
  EXPECT_TRUE(contains(message_with("curve", 3), {"d.checkpoint", "curve"}));
  EXPECT_TRUE(contains(message_with("final", Json()), {"d.checkpoint", "loss"}));
  tensors.pop_back();
  EXPECT_TRUE(contains(message_with("step", 30), {"d.checkpoint"}));
  write_file(folder_ / "d.checkpoint", "not a checkpoint");
  EXPECT_TRUE(contains(message(*store_, resumed()), {"d.checkpoint"}));
  save_tensors(folder_ / "d.checkpoint", tensors);
  EXPECT_TRUE(contains(message(*store_, resumed()), {"d.checkpoint", "is not a checkpoint"}));
}

TEST_F(TrainingFolder, OptionsThatCannotBeAreRefused) {
  const ActivationStore store = planted(500, 64, 24, 0.03);
  const auto refused = [&](const DictionaryTrainingOptions& options) {
    EXPECT_THROW(train_dictionary(store, options, folder_ / "d"), UsageError);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "d"));
  };
  refused({.latents = 64, .k = 65});
  refused({.latents = 64, .k = 0});
  refused({.latents = 0, .k = 1});
  refused({.latents = 64, .k = 4, .tokens = 0});
  refused({.latents = 64, .k = 4, .batch = 0});
  refused({.latents = 64, .k = 4, .learning_rate = -1.0});
  refused({.latents = 64, .k = 4, .decay = 1.5});
  refused({.architecture = "magic"});
  refused({.architecture = "gsae", .latents = 64, .k = 4, .gradient = {.score = "sum"}});
  EXPECT_TRUE(contains(message(store, {.latents = 64, .k = 65}), {"--k 65", "64"}));
  EXPECT_TRUE(contains(message(store, {.architecture = "magic"}), {"magic", "topk", "gsae"}));
}

TEST_F(TrainingFolder, GradientSelectionNeedsGradients) {
  save_tensors(folder_ / "plain.safetensors", {{"activations", torch::randn({50, 4})}});
  EXPECT_TRUE(contains(message(ActivationStore::open(folder_ / "plain.safetensors"), {.architecture = "gsae", .latents = 8, .k = 2}),
                       {"plain.safetensors", "--gradients"}));
}

TEST_F(TrainingFolder, DivergenceNamesTheStepAndLeavesNothing) {
  const ActivationStore store = planted(2000, 64, 24, 0.03);
  for (const double rate : {1e15, 1e30}) {
    EXPECT_TRUE(contains(message(store, {.latents = 64, .k = 4, .tokens = 100000, .batch = 500, .learning_rate = rate}),
                         {"step", "lower --learning-rate"}))
        << rate;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "d"));
  }
}

TEST_F(TrainingFolder, BadRowsAreNamed) {
  torch::Tensor rows = torch::randn({300, 8});
  rows[123][4] = std::nanf("");
  save_tensors(folder_ / "bad.safetensors", {{"activations", rows}});
  EXPECT_TRUE(contains(message(ActivationStore::open(folder_ / "bad.safetensors"), {.latents = 16, .k = 2}), {"bad.safetensors", "row 123"}));
  save_tensors(folder_ / "same.safetensors", {{"activations", torch::ones({300, 8})}});
  EXPECT_TRUE(contains(message(ActivationStore::open(folder_ / "same.safetensors"), {.latents = 16, .k = 2}), {"all the same"}));
}

TEST_F(TrainingFolder, TakesMoreLatentsThanRows) {
  const ActivationStore store = planted(20, 64, 24, 0.1);
  const Json result = train_dictionary(store, {.latents = 300, .k = 300, .tokens = 3000, .batch = 50}, folder_ / "d");
  EXPECT_TRUE(std::isfinite(result["loss"].get<double>()));
  EXPECT_EQ(load_dictionary(folder_ / "d")->size(), 300);
}

TEST_F(TrainingFolder, LeavesOutAttentionSinks) {
  const ActivationStore store = planted(2000, 64, 24, 0.05);
  torch::Tensor rows = store.read(0, 2000).activations;
  rows.narrow(0, 0, 20).fill_(1000.0);
  save_tensors(folder_ / "sinks.safetensors", {{"activations", rows}});
  const ActivationStore sinks = ActivationStore::open(folder_ / "sinks.safetensors");
  const DictionaryTrainingOptions options{.latents = 64, .k = 4, .tokens = 4000, .batch = 100, .drop_sinks = true};
  EXPECT_GE(train_dictionary(sinks, options, folder_ / "d")["dropped_sinks"].get<int64_t>(), 20);
  EXPECT_LT(load_dictionary(folder_ / "d")->decode({torch::zeros({2}, torch::kLong), torch::zeros({0}, torch::kInt), torch::zeros({0})})
                .abs().max().item<double>(),
            10.0);  // a decoder bias that no sink pulled
}

TEST_F(TrainingFolder, SaysWhereTheActivationsCameFrom) {
  ActivationWriter writer(folder_ / "s", {.width = 8, .origin = {{"site", "blocks.1.output"}, {"model", "m"}}});
  writer.append(torch::randn({500, 8}), {});
  writer.finish();
  train_dictionary(ActivationStore::open(folder_ / "s"), {.latents = 16, .k = 2, .tokens = 2000, .batch = 100}, folder_ / "d");
  const Json config = read_json(folder_ / "d" / "config.json");
  EXPECT_EQ(config["site"], "blocks.1.output");
  EXPECT_EQ(config["model"], "m");
  EXPECT_EQ(config["activations"], "s");
  const Json training = read_json(folder_ / "d" / "training.json");
  EXPECT_EQ(training["curve"].size(), 20u);
  EXPECT_EQ(training["tokens"], 2000);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "d.checkpoint"));
}

TEST(DefaultLearningRate, FallsWithTheRootOfTheLatents) {
  EXPECT_NEAR(default_learning_rate(4096), default_learning_rate(1024) / 2, 1e-12);
}

}  // namespace
}  // namespace sememe
