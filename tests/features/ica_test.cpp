#include "sememe/features/ica.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sememe/features/pca.h"
#include "tests/features/learner_setting.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

/// Independent Laplace sources of unit variance, mixed by a matrix whose columns are not orthogonal.
struct Mixture {
  torch::Tensor mixing;  // [width, sources], columns of norms from 0.5 to 2
  torch::Tensor sources, x;

  explicit Mixture(int64_t rows = 20000) {
    torch::manual_seed(6);
    mixing = torch::nn::functional::normalize(torch::randn({8, 10})).t() * torch::linspace(2.0, 0.5, 8);
    const torch::Tensor uniform = torch::rand({rows, 8}) - 0.5;
    sources = -uniform.sign() * (1.0 - 2.0 * uniform.abs()).clamp_min(1e-7).log() / std::sqrt(2.0);
    x = torch::mm(sources, mixing.t()) + 5.0;
  }
  LearnerOptions options(int64_t steps) const { return {.width = 10, .latents = 16, .k = 8, .seed = 3, .steps = steps}; }
  /// Mean over the planted columns of the |cosine| with the nearest atom.
  double found_by(const Dictionary& dictionary) const {
    const torch::Tensor planted = torch::nn::functional::normalize(mixing.t());
    return std::get<0>(torch::mm(planted, dictionary.atoms().t()).abs().max(1)).mean().item<double>();
  }
};

TEST(IcaLearner, RecoversPlantedSourcesWherePcaDoesNot) {
  const Mixture mixture;
  IcaLearner ica(mixture.options(0), measure_activations(mixture.x));
  PcaLearner pca(mixture.options(0), measure_activations(mixture.x));
  for (int64_t row = 0; row < 20000; row += 1000) {
    ica.step({mixture.x.narrow(0, row, 1000), {}}, 0.0);
    pca.step({mixture.x.narrow(0, row, 1000), {}}, 0.0);
  }
  const auto dictionary = ica.dictionary(Json::object());
  const double found = mixture.found_by(*dictionary), by_pca = mixture.found_by(*pca.dictionary(Json::object()));
  RecordProperty("figures", fmt::format("mean |cosine| ica {:.4f}, pca {:.4f}", found, by_pca));
  EXPECT_GT(found, 0.99);
  EXPECT_LT(by_pca, 0.9);
  // The component that adds most variance comes first, and codes are sources times the norm of their column.
  const torch::Tensor cosines = torch::mm(dictionary->atoms(), torch::nn::functional::normalize(mixture.mixing.t()).t());
  EXPECT_EQ(cosines[0].abs().argmax().item<int64_t>(), 0);
  const SparseCodes codes = dictionary->encode(mixture.x);
  EXPECT_EQ(codes.values.numel(), 8 * 20000);  // all components of all rows
  EXPECT_LT((dictionary->decode(codes) - mixture.x).abs().max().item<double>(), 1e-3);
  const torch::Tensor first = codes.values.masked_select(codes.atoms < 2), wanted = mixture.sources.select(1, 0).abs() * 2.0;
  EXPECT_LT((first - wanted).square().mean().item<double>(), 0.05 * wanted.square().mean().item<double>());
}

TEST(FastIca, IsOrthogonalAndSettles) {
  torch::manual_seed(8);
  const torch::Tensor sources = torch::rand({4000, 5}) - 0.5;
  const torch::Tensor centred = (sources - sources.mean(0)).to(torch::kDouble);
  const auto [values, vectors] = torch::linalg_eigh(torch::mm(centred.t(), centred) / 4000.0);
  const FastIca ica = fast_ica(torch::mm(centred, vectors / values.sqrt()).to(torch::kFloat), {});
  EXPECT_LT(ica.iterations, 30);
  EXPECT_LT(ica.turned, 1e-4);
  EXPECT_LT((torch::mm(ica.unmixing, ica.unmixing.t()) - torch::eye(5, torch::kDouble)).abs().max().item<double>(), 1e-10);
}

TEST(IcaLearner, TakesInputsOfAnySize) {
  const Mixture mixture;
  const auto learn = [&](const torch::Tensor& x) {
    LearnerOptions options = mixture.options(0);
    options.k = 3;
    IcaLearner learner(options, measure_activations(x));
    learner.step({x, {}}, 0.0);
    return learner.dictionary(Json::object());
  };
  const torch::Tensor large = mixture.x * 100.0;
  const auto reference = learn(mixture.x), dictionary = learn(large);
  const torch::Tensor wanted = reference->decode(reference->encode(mixture.x)) * 100.0;
  const torch::Tensor output = dictionary->decode(dictionary->encode(large));
  EXPECT_LT((output - wanted).norm().item<double>(), 2e-2 * wanted.norm().item<double>());
}

TEST(IcaLearner, TheLastTwentiethOfTheRunMeasuresWhatIsSaved) {
  const Mixture mixture;
  LearnerOptions options = mixture.options(40);
  options.k = 3;
  IcaLearner learner(options, measure_activations(mixture.x));
  for (int64_t step = 0; step < 38; ++step) {
    const StepReport report = learner.step({mixture.x.narrow(0, step * 500, 500), {}}, 0.0);
    EXPECT_EQ(report.fvu, 1.0);
    EXPECT_EQ(report.l0, 0.0);
  }
  const torch::Tensor x = mixture.x.narrow(0, 19000, 500);
  const StepReport report = learner.step({x, {}}, 0.0);
  EXPECT_EQ(learner.sampled(), 19000);
  const auto dictionary = learner.dictionary(Json::object());
  const double errors = (x - dictionary->decode(dictionary->encode(x))).square().sum().item<double>();
  EXPECT_NEAR(report.fvu, errors / (500 * measure_activations(mixture.x).variance), 1e-6);
  EXPECT_EQ(report.l0, 3.0);
}

class IcaCheckpoint : public ScratchFolder {};

TEST_F(IcaCheckpoint, GoesOnTheSameBeforeAndAfterTheFit) {
  const Mixture mixture;
  const auto step = [&](IcaLearner& learner, int64_t number) {
    return learner.step({mixture.x.narrow(0, number * 500, 500), {}}, 0.0);
  };
  for (const int64_t last : {10, 39}) {
    IcaLearner first(mixture.options(40), measure_activations(mixture.x)), second(mixture.options(40), measure_activations(mixture.x));
    for (int64_t number = 0; number < last; ++number) step(first, number);
    save_tensors(folder_ / "state", first.state());
    second.restore(SafetensorsFile(folder_ / "state"));
    for (int64_t number = last; number < 40; ++number) EXPECT_EQ(step(first, number).fvu, step(second, number).fvu);
    EXPECT_TRUE(torch::equal(first.dictionary(Json::object())->atoms(), second.dictionary(Json::object())->atoms())) << last;
  }
}

TEST(IcaLearner, SamplesAllRowsAlikeWhenTheyAreMoreThanItKeeps) {
  const int64_t rows = 2 * IcaLearner::kSampleRows;
  const torch::Tensor numbers = torch::arange(rows, torch::kFloat).unsqueeze(1);
  IcaLearner learner({.width = 1, .latents = 2, .k = 1}, measure_activations(numbers));
  for (int64_t row = 0; row < rows; row += 10000) learner.step({numbers.narrow(0, row, 10000), {}}, 0.0);
  for (const auto& [name, tensor] : learner.state()) {
    if (name != "sample") continue;
    EXPECT_EQ(tensor.size(0), IcaLearner::kSampleRows);
    // Half of each tenth, to 5 standard deviations.
    const torch::Tensor counts = torch::histc(tensor.flatten(), 10, 0, static_cast<double>(rows - 1));
    EXPECT_LT((counts - 5000.0).abs().max().item<double>(), 250.0);
    EXPECT_EQ(std::get<0>(at::_unique(tensor.flatten())).numel(), IcaLearner::kSampleRows);
  }
}

TEST(IcaLearner, RowsThatCannotBeAreRefused) {
  const Mixture mixture;
  IcaLearner learner(mixture.options(0), measure_activations(mixture.x));
  torch::Tensor bad = mixture.x.narrow(0, 0, 8).clone();
  bad[3][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { learner.step({bad, {}}, 0.0); }), {"row 3", "NaN"}));
  learner.step({mixture.x.narrow(0, 0, 10), {}}, 0.0);
  EXPECT_TRUE(contains(error_from([&] { learner.dictionary(Json::object()); }), {"ica", "10 rows", "16 latents"}));
  LearnerOptions more = mixture.options(0);
  more.latents = 20;
  IcaLearner wider(more, measure_activations(mixture.x));
  wider.step({mixture.x.narrow(0, 0, 1000), {}}, 0.0);
  EXPECT_TRUE(contains(error_from([&] { wider.dictionary(Json::object()); }), {"span 8 dimensions", "10 components", "--latents 16"}));
  more.latents = 22;
  EXPECT_TRUE(contains(error_from([&] { IcaLearner(more, measure_activations(mixture.x)); }), {"--latents 22", "ica", "at most 20"}));
}

}  // namespace
}  // namespace sememe
