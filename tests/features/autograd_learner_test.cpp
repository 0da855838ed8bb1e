#include "sememe/features/autograd_learner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "sememe/features/architectures.h"
#include "sememe/features/dictionary_training.h"
#include "tests/features/learner_setting.h"
#include "tests/features/planted_directions.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

/// Principal and independent components are at most twice as many as the width.
int64_t latents_of(std::string_view architecture) { return architecture == "pca" || architecture == "ica" ? 24 : 40; }

struct Setting : LearnerSetting {
  explicit Setting(const std::string& architecture = "topk")
      : LearnerSetting({.width = 12, .latents = latents_of(architecture), .k = 5, .seed = 3, .dead_after = 100, .steps = 40}) {}
  std::unique_ptr<DictionaryLearner> learner(const std::string& architecture) const {
    LearnerOptions of_this = options;
    if (architecture == "crosscoder" || architecture == "transcoder") of_this.parts = {5, 7};
    return find_architecture(architecture).learn(of_this, measure_activations(x, of_this.parts));
  }
};

/// Those that learn from batches; semi-NMF learns from all rows at once.
std::vector<Architecture> learnt_from_batches() {
  std::vector<Architecture> some(architectures().begin(), architectures().end());
  std::erase_if(some, [](const Architecture& architecture) { return architecture.name == "snmf"; });
  return some;
}

/// They in all their forms.
std::vector<std::pair<std::string, std::optional<std::string>>> forms() {
  std::vector<std::pair<std::string, std::optional<std::string>>> forms;
  for (const Architecture& architecture : learnt_from_batches()) forms.emplace_back(architecture.name, std::nullopt);
  forms.emplace_back("relu", "classic");
  forms.emplace_back("jumprelu", "tanh");
  return forms;
}

class EveryArchitecture : public ScratchFolder {};

TEST_F(EveryArchitecture, GoesOnTheSameAfterRestoring) {
  for (const auto& [name, penalty] : forms()) {
    Setting setting(name);
    setting.options.penalty = penalty;
    const auto first = setting.learner(name);
    for (int step = 0; step < 27; ++step) first->step({setting.x, setting.gradients}, 1e-2);
    save_tensors(folder_ / "state", first->state());
    const auto second = setting.learner(name);
    second->restore(SafetensorsFile(folder_ / "state"));
    for (int step = 0; step < 5; ++step) {
      first->step({setting.x, setting.gradients}, 1e-2);
      second->step({setting.x, setting.gradients}, 1e-2);
    }
    const NamedTensors wanted = first->state(), found = second->state();
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(torch::equal(wanted[i].second, found[i].second)) << name << wanted[i].first;
  }
}

TEST_F(EveryArchitecture, IsLoadedAsItWasSaved) {
  for (const auto& [name, penalty] : forms()) {
    Setting setting(name);
    setting.options.penalty = penalty;
    const auto learner = setting.learner(name);
    for (int step = 0; step < 30; ++step) learner->step({setting.x, setting.gradients}, 1e-2);
    const auto dictionary = learner->dictionary(Json{{"site", "blocks.1.output"}});
    dictionary->save(folder_);
    const auto loaded = load_dictionary(folder_);
    EXPECT_EQ(loaded->architecture(), name);
    EXPECT_EQ(read_json(folder_ / "config.json")["site"], "blocks.1.output");
    const SparseCodes codes = dictionary->encode(setting.x), again = loaded->encode(setting.x);
    EXPECT_GT(codes.values.numel(), 0) << name;
    EXPECT_TRUE(torch::equal(codes.atoms, again.atoms) && torch::equal(codes.values, again.values)) << name;
    EXPECT_TRUE(torch::equal(dictionary->decode(codes), loaded->decode(again))) << name;
    EXPECT_LT((loaded->atoms().norm(2, {1}) - 1.0).abs().max().item<double>(), 1e-5) << name;
  }
}

TEST_F(EveryArchitecture, TakesInputsOfAnySize) {
  // The same rows a hundred times as large: the same codes a hundred times as large.
  for (const auto& [name, penalty] : forms()) {
    if (name == "ica") continue;  // in normal noise no direction is more independent than another, and rounding chooses
    Setting setting(name);
    setting.options.penalty = penalty;
    if (name == "attribution") setting.options.sparsity = 1.0;  // with little of it the signs of influences flip on the last bit
    const auto small = setting.learner(name);
    for (int step = 0; step < 30; ++step) small->step({setting.x, setting.gradients}, 1e-2);
    setting.x = setting.x * 100.0;
    setting.gradients = setting.gradients / 100.0;
    setting.statistics = measure_activations(setting.x);
    const auto large = setting.learner(name);
    for (int step = 0; step < 30; ++step) large->step({setting.x, setting.gradients}, 1e-2);
    const auto dictionary = large->dictionary(Json::object()), reference = small->dictionary(Json::object());
    const torch::Tensor output = dictionary->decode(dictionary->encode(setting.x));
    const torch::Tensor wanted = reference->decode(reference->encode(setting.x / 100.0)) * 100.0;
    EXPECT_LT((output - wanted).norm().item<double>(), 2e-2 * wanted.norm().item<double>()) << name;
  }
}

TEST_F(EveryArchitecture, SavesWhatItLearnt) {
  // The dictionary's error is the one that training saw, where single rows are encoded as a batch is.
  for (const auto& [name, penalty] : forms()) {
    if (name == "batchtopk" || name == "matryoshka" || name == "gsae" || name == "crosscoder" || name == "transcoder") continue;
    if (name == "ica") continue;  // it has no components before the end of the run
    Setting setting(name);
    setting.options.penalty = penalty;
    const auto learner = setting.learner(name);
    for (int step = 0; step < 30; ++step) learner->step({setting.x, setting.gradients}, 1e-2);
    const auto dictionary = learner->dictionary(Json::object());
    const StepReport report = learner->step({setting.x, setting.gradients}, 1e-2);
    const SparseCodes codes = dictionary->encode(setting.x);
    const double fvu = (setting.x - dictionary->decode(codes)).square().sum().item<double>() / (64 * setting.statistics.variance);
    EXPECT_NEAR(fvu, report.fvu, 1e-3 * report.fvu) << name;
    EXPECT_NEAR(static_cast<double>(codes.values.numel()) / 64, report.l0, 0.1) << name;
  }
}

TEST_F(EveryArchitecture, RefusesTheOptionsOfOthers) {
  const Setting setting;
  save_tensors(folder_ / "x.safetensors", {{"activations", setting.x}, {"gradients", setting.gradients}});
  const ActivationStore store = ActivationStore::open(folder_ / "x.safetensors");
  const std::vector<std::pair<std::string, std::function<void(DictionaryTrainingOptions&)>>> all{
      {"k", [](auto& options) { options.k = 3; }},
      {"auxiliary-k", [](auto& options) { options.auxiliary_k = 3; }},
      {"beta", [](auto& options) { options.gradient.beta = 1.0; }},
      {"score", [](auto& options) { options.gradient.score = "additive"; }},
      {"gradient-scaling", [](auto& options) { options.gradient.scaling = "raw"; }},
      {"multi-topk", [](auto& options) { options.multi_top_k = true; }},
      {"sparsity", [](auto& options) { options.sparsity = 0.5; }},
      {"target-l0", [](auto& options) { options.target_l0 = 5.0; }},
      {"penalty", [](auto& options) { options.penalty = options.architecture == "relu" ? "classic" : "l0"; }},
      {"attribution", [](auto& options) { options.attribution = 1.0; }},
      {"unexplained", [](auto& options) { options.unexplained = 1.0; }},
      {"prefixes", [](auto& options) { options.prefixes = {8, 40}; }}};
  for (const Architecture& architecture : learnt_from_batches()) {
    for (const auto& [name, give] : all) {
      DictionaryTrainingOptions options{
          .architecture = std::string(architecture.name), .latents = latents_of(architecture.name), .tokens = 160, .batch = 16};
      give(options);
      const std::string said = error_from([&] { train_dictionary(store, options, folder_ / "d"); });
      EXPECT_EQ(contains(said, {"--" + name + ":", "--architecture " + options.architecture, "has no such option"}),
                !architecture.takes(name))
          << architecture.name << " --" << name << ": " << said;
      if (architecture.takes(name)) EXPECT_TRUE(contains(said, {"no error"}) || contains(said, {"takes activations of"})) << said;
    }
    for (const std::string_view option : architecture.options)
      EXPECT_TRUE(std::any_of(all.begin(), all.end(), [&](const auto& each) { return each.first == option; })) << option;
  }
}

TEST_F(EveryArchitecture, RefusesALearningRateWhereNothingIsLearntByGradients) {
  save_tensors(folder_ / "x.safetensors", {{"activations", Setting().x}, {"gradients", Setting().gradients}});
  const ActivationStore store = ActivationStore::open(folder_ / "x.safetensors");
  for (const Architecture& architecture : learnt_from_batches()) {
    const DictionaryTrainingOptions options{.architecture = std::string(architecture.name), .latents = latents_of(architecture.name),
                                            .tokens = 160, .batch = 16, .learning_rate = 1e-3};
    const std::string said = error_from([&] { train_dictionary(store, options, folder_ / "d"); });
    EXPECT_EQ(contains(said, {"--learning-rate:", options.architecture, "has no such option"}), architecture.rate == 0) << said;
  }
}

TEST(AutogradLearner, ALossThatIsNotFiniteNamesTheStepAndTheRemedy) {
  for (const char* const name : {"relu", "gated", "jumprelu", "attribution"}) {
    const Setting setting;
    const auto learner = setting.learner(name);
    const std::string said = error_from([&] {
      for (int step = 0; step < 10; ++step) learner->step({setting.x, setting.gradients}, 1e20);
    });
    EXPECT_TRUE(contains(said, {"step 2", "lower --learning-rate"})) << name << ": " << said;
  }
}

TEST(AutogradLearner, CountsRowsSinceALatentFired) {
  Setting setting;
  const auto learner = setting.learner("relu");
  const torch::Tensor row = setting.x.narrow(0, 0, 1).expand({60, 12}).contiguous();
  EXPECT_EQ(learner->step({row, {}}, 0.0).dead, 0);
  const StepReport report = learner->step({row, {}}, 0.0);
  EXPECT_GT(report.dead, 0);
  EXPECT_EQ(report.dead, 40 - static_cast<int64_t>(report.l0));
}

TEST(AutogradLearner, RatesAndPenaltiesRiseFromNothing) {
  Setting setting;
  setting.options.steps = 1000;
  setting.options.sparsity = 1.0;
  // The first of 50 steps in which the rate rises moves by a fiftieth of it; Adam's first step is the rate in each number.
  const auto learner = setting.learner("gated");
  const auto weights = [&] {
    for (const auto& [name, tensor] : learner->state())
      if (name.starts_with("weights.")) return tensor;
    return torch::Tensor();
  };
  const torch::Tensor before = weights().clone();
  learner->step({setting.x, {}}, 0.5);
  EXPECT_NEAR((weights() - before).abs().max().item<double>(), 0.01, 1e-5);
  const auto loss = [&](double sparsity, int64_t steps) {
    setting.options.sparsity = sparsity;
    setting.options.steps = steps;
    return setting.learner("relu")->step({setting.x, {}}, 0.1).loss;
  };
  EXPECT_NEAR(loss(1.0, 1000) - loss(0.0, 1000), (loss(1.0, 0) - loss(0.0, 0)) / 100.0, 1e-3);
}

TEST(AutogradLearner, TheSparsityTermIsWeighedUntilL0IsTheTarget) {
  for (const char* const name : {"relu", "gated", "attribution"}) {
    for (const double target : {3.0, 9.0}) {
      const double l0 = measure_held_out(*learn_planted(name, {.target_l0 = target}, 1200, 3e-3)->dictionary(Json::object())).l0;
      EXPECT_NEAR(l0, target, 0.25 * target) << name;
    }
  }
}

TEST(AutogradLearner, AWeightAndATargetOfSparsityExcludeEachOther) {
  Setting setting;
  setting.options.sparsity = 1.0;
  setting.options.target_l0 = 8.0;
  EXPECT_TRUE(contains(error_from([&] { setting.learner("relu"); }), {"--sparsity", "--target-l0"}));
}

}  // namespace
}  // namespace sememe
