// What works the same on every device: encoding, learning, capture and evaluation, held against the CPU.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "sememe/features/architectures.h"
#include "sememe/features/autograd_learner.h"
#include "sememe/features/capture.h"
#include "sememe/features/dictionary_training.h"
#include "sememe/features/evaluation.h"
#include "sememe/features/gated_dictionary.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/intervention.h"
#include "sememe/features/threshold_dictionary.h"
#include "sememe/network/trainer.h"
#include "tests/features/learner_setting.h"
#include "tests/features/on_device.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

/// A way of learning: an architecture, its penalty, and a weight of the sparsity term where L0 is not aimed at.
struct Form {
  std::string architecture;
  std::optional<std::string> penalty{};
  std::optional<double> sparsity{};
};

/// All that learn by gradients.
std::vector<Form> forms() {
  std::vector<Form> forms{{"relu", "classic"}, {"jumprelu", "tanh"}, {"jumprelu", "l0", 0.5}};
  for (const Architecture& architecture : architectures())
    if (architecture.rate > 0 && architecture.name != "snmf") forms.push_back({std::string(architecture.name)});
  return forms;
}

class Devices : public OnDevice<ScratchFolder> {
 protected:
  struct Setting : LearnerSetting {
    Setting() : LearnerSetting({.width = 12, .latents = 40, .k = 5, .seed = 3, .dead_after = 100, .steps = 40}) {}
  };
  static std::unique_ptr<DictionaryLearner> learner(const Form& form, const Setting& setting, torch::Device device) {
    LearnerOptions options = setting.options;
    options.penalty = form.penalty;
    options.sparsity = form.sparsity;
    options.device = device;
    if (form.architecture == "crosscoder" || form.architecture == "transcoder") options.parts = {5, 7};
    return find_architecture(form.architecture).learn(options, measure_activations(setting.x, options.parts));
  }
};
INSTANTIATE_TEST_SUITE_P(Every, Devices, every_device, name_of_device);

std::string described(const Form& form) {
  return fmt::format("{} {} {}", form.architecture, form.penalty.value_or(""), form.sparsity ? "with a weight" : "");
}

double off(const torch::Tensor& found, const torch::Tensor& wanted) {
  return (found.cpu() - wanted).norm().item<double>() / (wanted.norm().item<double>() + 1e-6);
}

TEST_P(Devices, LossesByAutogradDoNotDependOnThePartsOfABatch) {
  for (const Form& form : forms()) {
    const Setting setting;
    const auto whole = learner(form, setting, torch::kCPU), in_parts = learner(form, setting, device());
    if (dynamic_cast<AutogradLearner*>(whole.get()) == nullptr) continue;  // by hand: tensor_top_k_test.cpp
    auto& wanted = dynamic_cast<AutogradLearner&>(*whole);
    auto& found = dynamic_cast<AutogradLearner&>(*in_parts);
    found.limit_part(9);
    const ActivationRows rows{setting.x, setting.gradients};
    wanted.step(rows, 1e-3);
    found.step(rows, 1e-3);
    const StepReport reference = wanted.compute_gradients(rows), report = found.compute_gradients(rows);
    EXPECT_NEAR(report.loss, reference.loss, 1e-5 * std::abs(reference.loss)) << described(form);
    EXPECT_NEAR(report.fvu, reference.fvu, 1e-5 * reference.fvu) << described(form);
    EXPECT_NEAR(report.l0, reference.l0, 1e-9) << described(form);
    for (size_t i = 0; i < wanted.gradients().size(); ++i)
      EXPECT_LT(off(found.gradients()[i].second, wanted.gradients()[i].second), 1e-4)
          << described(form) << ", " << wanted.gradients()[i].first;
    EXPECT_TRUE(torch::equal(found.rows_since_fired().cpu(), wanted.rows_since_fired())) << described(form);
  }
}

TEST_P(Devices, EveryArchitectureLearnsAsOnTheCpu) {
  for (const Form& form : forms()) {
    const Setting setting;
    const auto wanted = learner(form, setting, torch::kCPU), found = learner(form, setting, device());
    for (DictionaryLearner* const each : {wanted.get(), found.get()})  // a latent that is dead, and begins anew where the form has that
      for (const auto& [name, tensor] : each->state())
        if (name == "weights.encoder_bias") tensor[3].fill_(-100.0);
    double first = 0.0, last = 0.0;
    for (int step = 0; step < 40; ++step) {
      const StepReport report = found->step({setting.x, setting.gradients}, 1e-2);
      last = wanted->step({setting.x, setting.gradients}, 1e-2).fvu;
      if (step == 0) first = last;
      ASSERT_NEAR(report.fvu, last, 2e-3 * last) << described(form) << ", step " << step;
    }
    EXPECT_LT(last, first) << described(form);
    const auto dictionary = found->dictionary(Json::object()), reference = wanted->dictionary(Json::object());
    EXPECT_LT(off(dictionary->atoms(), reference->atoms()), 1e-2) << described(form);
    save_tensors(folder_ / "state", found->state());
    wanted->restore(SafetensorsFile(folder_ / "state"));  // goes on here
    EXPECT_NEAR(wanted->step({setting.x, setting.gradients}, 1e-2).loss, found->step({setting.x, setting.gradients}, 1e-2).loss, 1e-3);
  }
}

/// A dictionary of each kind.
std::vector<std::shared_ptr<Autoencoder>> dictionaries(int64_t width, int64_t latents) {
  torch::manual_seed(5);
  const auto weights = [&] {
    AutoencoderWeights random = AutoencoderWeights::zeros(latents, width);
    for (auto& [name, tensor] : random.named()) tensor.normal_();
    return random;
  };
  return {std::make_shared<TopKDictionary>(weights(), 5, Json::object()),
          std::make_shared<GradientTopKDictionary>(weights(), 5, GradientSelection{}, 0.7, Json::object()),
          std::make_shared<ThresholdDictionary>(weights(), torch::rand({latents}), "jumprelu", Json::object()),
          std::make_shared<GatedDictionary>(weights(), torch::randn({latents}) * 0.1, torch::randn({latents}) * 0.1, Json::object())};
}

void expect_same(const SparseCodes& found, const SparseCodes& wanted, const std::string& what) {
  ASSERT_TRUE(torch::equal(found.offsets.cpu(), wanted.offsets)) << what;
  EXPECT_TRUE(torch::equal(found.atoms.cpu(), wanted.atoms)) << what;
  EXPECT_LT(off(found.values, wanted.values), 1e-5) << what;
}

TEST_P(Devices, InputsAreEncodedAndDecodedWhereTheyAre) {
  const torch::Tensor x = torch::randn({300, 12}), gradients = torch::randn({300, 12});
  for (const auto& dictionary : dictionaries(12, 40)) {
    const SparseCodes wanted = dictionary->encode(x), found = dictionary->encode(x.to(device()));
    EXPECT_EQ(found.values.device().type(), device().type()) << dictionary->architecture();
    expect_same(found, wanted, dictionary->architecture());
    expect_same(dictionary->encode_by_tensors(x.to(device())), wanted, dictionary->architecture());
    const torch::Tensor output = dictionary->decode(found);
    EXPECT_EQ(output.device().type(), device().type()) << dictionary->architecture();
    EXPECT_LT(off(output, dictionary->decode(wanted)), 1e-5) << dictionary->architecture();
    const SparseCodes selected = dictionary->encode(x, gradients);
    expect_same(dictionary->encode(x.to(device()), gradients.to(device())), selected, dictionary->architecture());
    expect_same(dictionary->encode_by_tensors(x.to(device()), gradients.to(device())), selected, dictionary->architecture());
    EXPECT_EQ(dictionary->encode_by_tensors(x.narrow(0, 0, 0).to(device())).rows(), 0);
  }
}

TEST_P(Devices, AModelIsCapturedAsOnTheCpu) {
  const std::filesystem::path text = write_text(folder_ / "text.txt");
  const LanguageModel model = small_language_model();
  const auto captured = [&](torch::Device where, const char* name) {
    move_module(*model.network, where);
    capture(model, text,
            {.site = "blocks.0.output", .tokens = 100000, .batch_tokens = 60, .gradients = true, .half = false, .device = where},
            folder_ / name);
    const ActivationStore store = ActivationStore::open(folder_ / name);
    return store.read(0, store.rows());
  };
  const ActivationRows wanted = captured(torch::kCPU, "cpu"), found = captured(device(), "device");
  ASSERT_EQ(found.activations.sizes(), wanted.activations.sizes());
  EXPECT_LT(off(found.activations, wanted.activations), 1e-4);
  EXPECT_LT(off(found.gradients, wanted.gradients), 1e-4);
}

TEST_P(Devices, DictionariesAreEvaluatedAsOnTheCpu) {
  const std::filesystem::path text = write_text(folder_ / "text.txt");
  const LanguageModel model = small_language_model();
  const std::string site = "blocks.0.output";
  for (const auto& dictionary : dictionaries(find_site(*model.network, site).width, 40)) {
    const auto evaluated = [&](torch::Device where) {
      move_module(*model.network, where);
      return evaluate_dictionary(*dictionary, model, text, {.site = site, .batch_tokens = 60, .device = where});
    };
    const Json wanted = evaluated(torch::kCPU), found = evaluated(device());
    ASSERT_EQ(found.size(), wanted.size());
    for (const auto& [key, value] : wanted.items()) {
      if (!value.is_number()) continue;
      EXPECT_NEAR(found.at(key).get<double>(), value.get<double>(), 1e-3 * (1.0 + std::abs(value.get<double>())))
          << dictionary->architecture() << ", " << key;
    }
  }
}

TEST_P(Devices, CodesAreEditedInAModelAsOnTheCpu) {
  const LanguageModel model = small_language_model();
  const std::string site = "blocks.0.output";
  const auto dictionary = dictionaries(find_site(*model.network, site).width, 40)[0];
  Intervention intervention(site, "", *dictionary);
  intervention.edits = {Edit::clamp(3, 2.0), Edit::ablate(5), Edit::add(7, 1.0, 2.0)};
  const torch::NoGradGuard no_autograd;
  const auto predicted = [&](torch::Device where) {
    move_module(*model.network, where);
    InterveneSite visitor(intervention, *dictionary);
    return model.network->forward({torch::tensor({{1, 5, 9, 3}}, torch::kLong).to(where), {}}, visitor).cpu();
  };
  const torch::Tensor wanted = predicted(torch::kCPU);
  EXPECT_LT(off(predicted(device()), wanted), 1e-4);
}

TEST_P(Devices, ARunIsInterchangeableWithOneOnTheCpu) {
  torch::manual_seed(4);
  save_tensors(folder_ / "x.safetensors", {{"activations", torch::randn({640, 12})}, {"gradients", torch::randn({640, 12})}});
  const ActivationStore store = ActivationStore::open(folder_ / "x.safetensors");
  for (const Form& form : forms()) {
    if (form.penalty || form.architecture == "crosscoder" || form.architecture == "transcoder") continue;
    const std::string& name = form.architecture;
    DictionaryTrainingOptions options{.architecture = name, .latents = 40, .tokens = 2560, .batch = 64};
    const Json wanted = train_dictionary(store, options, folder_ / "cpu");
    options.device = device();
    const Json found = train_dictionary(store, options, folder_ / "device");
    EXPECT_NEAR(found["fvu"].get<double>(), wanted["fvu"].get<double>(), 0.02 * wanted["fvu"].get<double>()) << name;
    EXPECT_EQ(found["settings"], wanted["settings"]) << name;  // so that a checkpoint of one is taken by the other
    const auto dictionary = load_dictionary(folder_ / "device");
    EXPECT_EQ(dictionary->architecture(), name);
  }
}

TEST_P(Devices, AModelLearnsAsOnTheCpu) {
  torch::manual_seed(5);
  const torch::Tensor ids = torch::randint(0, testing::small_llama().vocabulary, {4, 9}, torch::kLong);
  const auto losses = [&](torch::Device where) {
    const LanguageModel model = small_language_model();
    move_module(*model.network, where);
    const auto batch = [&](int64_t, int64_t) {
      return Batch{ids.narrow(1, 0, 8).contiguous().to(where), ids.narrow(1, 1, 8).contiguous().to(where)};
    };
    TrainerOptions options;
    options.steps = 6;
    options.checkpoint = folder_ / where.str();
    return train(*model.network, batch, options).losses;
  };
  const std::vector<double> wanted = losses(torch::kCPU), found = losses(device());
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-3 * wanted[i]) << "step " << i;
  EXPECT_LT(found.back(), found.front());
}

class LearntOnTheCpuOnly : public ScratchFolder {};

TEST_F(LearntOnTheCpuOnly, IsWhatLearnsWithoutGradients) {
  torch::manual_seed(4);
  save_tensors(folder_ / "x.safetensors", {{"activations", torch::randn({64, 12})}});
  const ActivationStore store = ActivationStore::open(folder_ / "x.safetensors");
  for (const char* const name : {"kmeans", "pca", "ica"}) {
    const DictionaryTrainingOptions options{.architecture = name, .latents = 20, .tokens = 64, .batch = 16, .device = torch::kCUDA};
    EXPECT_TRUE(contains(error_from([&] { train_dictionary(store, options, folder_ / "d"); }), {"--device cuda", name, "on the cpu only"}));
  }
}

}  // namespace
}  // namespace sememe
