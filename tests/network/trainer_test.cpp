#include "sememe/network/trainer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <csignal>
#include <filesystem>
#include <limits>

#include "sememe/base/error.h"
#include "sememe/base/files.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// Two matrices and a bias, to be trained on a fixed random map.
class TwoLayers : public Network {
 public:
  TwoLayers() {
    const torch::Tensor pattern = torch::arange(6 * 4, torch::kFloat32).sin() * 0.5;
    first_ = register_parameter("first", pattern.view({6, 4}).clone());
    second_ = register_parameter("second", pattern.view({4, 6}).clone());
    bias_ = register_parameter("bias", torch::zeros({4}));
  }
  const std::vector<Site>& sites() const override { return sites_; }
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override {
    const torch::Tensor hidden = pass(sites_[0], torch::tanh(torch::linear(batch.inputs, first_)), visitor);
    return torch::linear(hidden, second_, bias_);
  }
  torch::Tensor loss(const torch::Tensor& output, const Batch& batch) const override {
    return torch::mse_loss(output, batch.targets);
  }
  torch::Tensor first_, second_, bias_;

 private:
  std::vector<Site> sites_ = {{"hidden", 6}};
};

Batch batch_of(int64_t step, int64_t part) {
  const torch::Tensor inputs = (torch::arange(8 * 4, torch::kFloat32) + static_cast<double>(step * 13 + part * 101)).sin();
  const torch::Tensor rows = inputs.view({8, 4});
  return {rows, rows.flip(1) * 0.7};
}

void expect_same_parameters(const Network& expected, const Network& found) {
  const auto parameters = found.named_parameters();
  for (const auto& item : expected.named_parameters()) EXPECT_TRUE(item.value().equal(parameters[item.key()])) << item.key();
}

struct TrainerTest : ::testing::Test {
  TrainerTest() {
    set_quiet(true);
    torch::set_num_threads(1);
    folder = fs::temp_directory_path() / ("sememe_trainer_" + std::to_string(::getpid()));
    fs::remove_all(folder);
    options.steps = 20;
    options.matrix_learning_rate = 0.02;
    options.learning_rate = 0.02;
    options.warmup_steps = 3;
    options.decay_fraction = 0.5;
  }
  ~TrainerTest() override { fs::remove_all(folder); }

  /// A run that is interrupted in the step numbered `at`, in a process of its own: a caught signal cannot be taken back.
  void interrupt_at(int64_t at) {
    EXPECT_EXIT(
        {
          catch_interrupts();
          TwoLayers network;
          const auto signals = [&](int64_t step, int64_t part) {
            if (step == at && part == 0) std::raise(SIGINT);
            return batch_of(step, part);
          };
          try {
            train(network, signals, options);
          } catch (const Interrupted& stop) {
            std::fprintf(stderr, "%s", stop.what());
            std::_Exit(0);
          }
          std::_Exit(3);
        },
        ::testing::ExitedWithCode(0), fmt::format("stopped after step {} of 20, saved in .*resume with --resume", at + 1));
  }

  /// Norm of the gradient of the first step, as the optimisers' moments remember it.
  double remembered_gradient() {
    TwoLayers network;
    options.steps = 1;
    options.checkpoint = folder / "checkpoint";
    train(network, batch_of, options);
    const SafetensorsFile state(options.checkpoint / "optimizer.safetensors");
    double squares = 0;
    for (const char* const name : {"muon/first", "muon/second"})
      squares += std::pow(load_tensor(state, name).norm().item<double>() / (1 - 0.95), 2);
    squares += std::pow(load_tensor(state, "adamw/first/bias").norm().item<double>() / (1 - 0.9), 2);
    return std::sqrt(squares);
  }

  void expect_refused(const std::vector<std::string>& words) {
    TwoLayers network;
    options.resume = true;
    try {
      train(network, batch_of, options);
      ADD_FAILURE() << "resumed";
    } catch (const Error& error) {
      for (const std::string& word : words) EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }

  fs::path folder;
  TrainerOptions options;
};

TEST_F(TrainerTest, LossFalls) {
  TwoLayers network;
  options.steps = 200;
  const TrainingResult result = train(network, batch_of, options);
  ASSERT_EQ(result.losses.size(), 200u);
  EXPECT_LT(result.losses.back(), 0.2 * result.losses.front());
}

TEST_F(TrainerTest, ResumedRunEqualsTheWholeRunBitForBit) {
  TwoLayers whole, stopped;
  const TrainingResult expected = train(whole, batch_of, options);
  options.checkpoint = folder / "checkpoint";
  options.checkpoint_steps = 7;
  const auto fails_at_17 = [](int64_t step, int64_t part) {
    if (step == 17) throw Error("killed here");
    return batch_of(step, part);
  };
  EXPECT_THROW(train(stopped, fails_at_17, options), Error);
  TwoLayers resumed;
  options.resume = true;
  const TrainingResult result = train(resumed, batch_of, options);
  EXPECT_EQ(result.losses, expected.losses);
  expect_same_parameters(whole, resumed);
}

TEST_F(TrainerTest, InterruptedAndResumedRunEqualsTheWholeRunBitForBit) {
  TwoLayers whole, resumed;
  options.parts = 2;
  options.weight_decay = 0.1;
  const TrainingResult expected = train(whole, batch_of, options);
  options.checkpoint = folder / "checkpoint";
  options.resume = true;
  interrupt_at(3);   // in the warm-up
  interrupt_at(15);  // in the decay, of a run that was itself resumed
  EXPECT_EQ(read_json(options.checkpoint / "state.json").at("step"), 16);
  const TrainingResult result = train(resumed, batch_of, options);
  EXPECT_EQ(result.losses, expected.losses);
  expect_same_parameters(whole, resumed);
}

TEST_F(TrainerTest, ResumingAFinishedRunChangesNothing) {
  TwoLayers whole, again;
  options.checkpoint = folder / "checkpoint";
  const TrainingResult expected = train(whole, batch_of, options);
  options.resume = true;
  const auto nothing = [](int64_t, int64_t) -> Batch { throw Error("no batch is wanted"); };
  EXPECT_EQ(train(again, nothing, options).losses, expected.losses);
  expect_same_parameters(whole, again);
}

TEST_F(TrainerTest, WithoutResumeACheckpointIsWrittenOver) {
  TwoLayers first, second;
  options.checkpoint = folder / "checkpoint";
  train(first, batch_of, options);
  options.steps = 5;
  train(second, batch_of, options);
  EXPECT_EQ(read_json(options.checkpoint / "state.json").at("step"), 5);
}

TEST_F(TrainerTest, ResumingWhereThereIsNoCheckpointStartsAtStepZero) {
  TwoLayers plain, resumed;
  const TrainingResult expected = train(plain, batch_of, options);
  options.checkpoint = folder / "checkpoint";
  options.resume = true;
  EXPECT_EQ(train(resumed, batch_of, options).losses, expected.losses);
}

TEST_F(TrainerTest, DamagedCheckpointsAreRefusedByFile) {
  TwoLayers network;
  options.checkpoint = folder / "checkpoint";
  options.settings = {{"seed", 1}};
  train(network, batch_of, options);
  const fs::path place = options.checkpoint / "state.json";
  const Json good = read_json(place);
  Json short_losses = good, no_step = good, early_step = good;
  short_losses["losses"].erase(0);
  no_step.erase("step");
  early_step["step"] = -1;
  for (const Json& bad : {Json::array(), Json("text"), Json(), Json(1), short_losses, no_step, early_step}) {
    write_json(place, bad);
    expect_refused({"state.json"});
  }
  write_json(place, good);
  save_tensors(options.checkpoint / "weights.safetensors", {{"first", torch::zeros({4, 6})}});
  expect_refused({"weights.safetensors", "\"first\"", "[4, 6]"});
  write_file(options.checkpoint / "optimizer.safetensors", "short");
  save_tensors(options.checkpoint / "weights.safetensors",
               {{"first", network.first_}, {"second", network.second_}, {"bias", network.bias_}});
  expect_refused({"optimizer.safetensors"});
}

TEST_F(TrainerTest, TheWholeGradientIsClippedToTheLargestNorm) {
  TwoLayers network;
  const Batch batch = batch_of(0, 0);
  SiteVisitor nobody;
  network.loss(network.forward(batch, nobody), batch).backward();
  double squares = 0;
  for (const torch::Tensor& parameter : network.parameters()) squares += parameter.grad().pow(2).sum().item<double>();
  const double norm = std::sqrt(squares);
  options.clip = 0;
  EXPECT_NEAR(remembered_gradient(), norm, 1e-4 * norm);
  options.clip = 2 * norm;
  EXPECT_NEAR(remembered_gradient(), norm, 1e-4 * norm);
  options.clip = 0.25 * norm;
  EXPECT_NEAR(remembered_gradient(), 0.25 * norm, 1e-4 * norm);
}

TEST_F(TrainerTest, EmbeddingsPositionsHeadsAndVectorsAreAdamWsAndOtherMatricesMuons) {
  struct Named : TwoLayers {
    Named() {
      for (const char* const name : {"embedding", "positions", "head", "inner"}) register_parameter(name, torch::zeros({2, 2}));
    }
  } network;
  options.steps = 1;
  options.checkpoint = folder / "checkpoint";
  train(network, batch_of, options);
  std::vector<std::string> muons, adamws;
  const SafetensorsFile state(options.checkpoint / "optimizer.safetensors");
  for (const TensorView& view : state.tensors()) {
    if (view.name.starts_with("muon/")) muons.push_back(view.name.substr(5));
    if (view.name.starts_with("adamw/first/")) adamws.push_back(view.name.substr(12));
  }
  std::sort(muons.begin(), muons.end());
  std::sort(adamws.begin(), adamws.end());
  EXPECT_EQ(muons, (std::vector<std::string>{"first", "inner", "second"}));
  EXPECT_EQ(adamws, (std::vector<std::string>{"bias", "embedding", "head", "positions"}));
}

TEST_F(TrainerTest, EachOptimizerUsesItsOwnRateAndFrozenParametersStay) {
  TwoLayers network;
  const TwoLayers before;
  network.second_.requires_grad_(false);
  options.matrix_learning_rate = 0;
  train(network, batch_of, options);
  EXPECT_TRUE(network.first_.equal(before.first_));
  EXPECT_TRUE(network.second_.equal(before.second_));
  EXPECT_FALSE(network.bias_.equal(before.bias_));
}

TEST_F(TrainerTest, WeightDecayShrinksTheWeights) {
  TwoLayers free, decayed;
  train(free, batch_of, options);
  options.weight_decay = 5;
  train(decayed, batch_of, options);
  EXPECT_LT(decayed.first_.norm().item<float>(), 0.9 * free.first_.norm().item<float>());
  EXPECT_LT(decayed.bias_.norm().item<float>(), free.bias_.norm().item<float>());
}

TEST_F(TrainerTest, PartsAreAveraged) {
  TwoLayers in_parts, at_once;
  options.steps = 5;
  options.parts = 2;
  train(in_parts, batch_of, options);
  options.parts = 1;
  const auto joined = [](int64_t step, int64_t) {
    const Batch a = batch_of(step, 0), b = batch_of(step, 1);
    return Batch{torch::cat({a.inputs, b.inputs}), torch::cat({a.targets, b.targets})};
  };
  train(at_once, joined, options);
  EXPECT_TRUE(in_parts.first_.allclose(at_once.first_, 1e-4, 1e-5));
  EXPECT_TRUE(in_parts.bias_.allclose(at_once.bias_, 1e-4, 1e-5));
}

TEST_F(TrainerTest, LossThatIsNoNumberNamesStepAndRateAndKeepsTheCheckpoint) {
  TwoLayers network;
  options.checkpoint = folder / "checkpoint";
  options.checkpoint_steps = 2;
  const auto poisoned = [](int64_t step, int64_t part) {
    Batch batch = batch_of(step, part);
    if (step == 5) batch.inputs = batch.inputs * std::numeric_limits<float>::quiet_NaN();
    return batch;
  };
  try {
    train(network, poisoned, options);
    FAIL();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("training step 6: the loss is nan at learning rates 0.02"), std::string::npos) << message;
    EXPECT_NE(message.find("keeps step 4"), std::string::npos) << message;
  }
  EXPECT_EQ(read_json(options.checkpoint / "state.json").at("step"), 4);
}

TEST_F(TrainerTest, CheckpointOfOtherSettingsIsRefused) {
  TwoLayers network;
  options.checkpoint = folder / "checkpoint";
  options.settings = {{"seed", 1}};
  train(network, batch_of, options);
  options.resume = true;
  options.settings = {{"seed", 2}};
  EXPECT_THROW(train(network, batch_of, options), Error);
}

TEST_F(TrainerTest, ScheduleWarmsUpHoldsAndFallsToZero) {
  options.steps = 100;
  options.warmup_steps = 10;
  options.decay_fraction = 0.4;
  EXPECT_DOUBLE_EQ(schedule(options, 0), 0.1);
  EXPECT_DOUBLE_EQ(schedule(options, 10), 1.0);
  EXPECT_DOUBLE_EQ(schedule(options, 60), 1.0);
  EXPECT_DOUBLE_EQ(schedule(options, 80), 0.5);
  EXPECT_DOUBLE_EQ(schedule(options, 99), 0.025);
}

RC_GTEST_PROP(Schedule, RisesInTheWarmUpThenNeverRisesAndEndsOneStepAboveZero, ()) {
  TrainerOptions options;
  options.steps = *rc::gen::inRange<int64_t>(1, 200);
  options.warmup_steps = *rc::gen::inRange<int64_t>(0, options.steps + 1);
  options.decay_fraction = *rc::gen::inRange(0, 11) / 10.0;
  const double decay_steps = options.decay_fraction * static_cast<double>(options.steps);
  for (int64_t step = 0; step < options.steps; ++step) {
    const double rate = schedule(options, step);
    RC_ASSERT(rate > 0);
    RC_ASSERT(rate <= 1);
    const bool warming = step < options.warmup_steps;
    const bool decaying = static_cast<double>(options.steps - step) < decay_steps;
    if (!warming && !decaying) RC_ASSERT(rate == 1);
    if (step == 0) continue;
    if (warming && !decaying) RC_ASSERT(rate > schedule(options, step - 1));
    if (!warming && decaying) RC_ASSERT((rate < schedule(options, step - 1) || step == options.warmup_steps));
  }
  const double last = schedule(options, options.steps - 1);
  if (decay_steps > 1) RC_ASSERT(last <= 1 / decay_steps + 1e-12);
}

TEST_F(TrainerTest, GradientThatIsNoNumberIsAnErrorBeforeItReachesTheWeights) {
  struct Kink : TwoLayers {  // the root of zero has an infinite slope
    torch::Tensor loss(const torch::Tensor& output, const Batch& batch) const override { return (output.sum() * 0).sqrt(); }
  } network;
  const TwoLayers before;
  try {
    train(network, batch_of, options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("training step 1: the gradient's norm is "), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("no checkpoint was written"), std::string::npos) << error.what();
  }
  expect_same_parameters(before, network);
}

TEST_F(TrainerTest, TrainingWithoutStepsPartsOrASensibleDecayIsWrongUsage) {
  TwoLayers network;
  TrainerOptions none = options, no_parts = options, long_decay = options, no_decay = options;
  none.steps = 0;
  no_parts.parts = 0;
  long_decay.decay_fraction = 1.5;
  no_decay.decay_fraction = std::numeric_limits<double>::quiet_NaN();
  for (const TrainerOptions& bad : {none, no_parts, long_decay, no_decay})
    EXPECT_THROW(train(network, batch_of, bad), UsageError);
}

TEST_F(TrainerTest, InterruptFinishesTheStepSavesAndSaysHowToResume) {
  options.checkpoint = folder / "checkpoint";
  interrupt_at(3);
  EXPECT_EQ(read_json(options.checkpoint / "state.json").at("step"), 4);
}

TEST_F(TrainerTest, InterruptInTheLastStepLetsTheRunEndWell) {
  EXPECT_EXIT(
      {
        catch_interrupts();
        TwoLayers network;
        const auto signals_at_the_end = [&](int64_t step, int64_t part) {
          if (step == options.steps - 1) std::raise(SIGINT);
          return batch_of(step, part);
        };
        std::_Exit(train(network, signals_at_the_end, options).losses.size() == 20 ? 0 : 2);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace sememe
