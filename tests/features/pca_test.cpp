#include "sememe/features/pca.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sememe/features/evaluation.h"
#include "tests/features/learner_setting.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

/// Rows of unequal variances along random directions, far from 0.
struct Rows {
  torch::Tensor x, eigenvalues, eigenvectors;  // variances falling; vectors in rows

  Rows() {
    torch::manual_seed(4);
    x = torch::mm(torch::randn({1500, 10}), torch::randn({10, 10})) + 30.0;
    const torch::Tensor centred = x.to(torch::kDouble) - x.to(torch::kDouble).mean(0);
    const auto [values, vectors] = torch::linalg_eigh(torch::mm(centred.t(), centred) / 1500.0);
    eigenvalues = values.flip(0);
    eigenvectors = vectors.t().flip(0);
  }
  PcaLearner learner(int64_t latents, int64_t k) const {
    return PcaLearner({.width = 10, .latents = latents, .k = k}, measure_activations(x));
  }
  /// In batches of unequal sizes.
  void learn(PcaLearner& learner) const {
    for (const auto& [begin, count] : {std::pair{0, 1}, std::pair{1, 499}, std::pair{500, 1000}})
      learner.step({x.narrow(0, begin, count), {}}, 0.0);
  }
};

TEST(RowMoments, AreThoseOfAllRowsWhateverTheBatches) {
  const Rows rows;
  RowMoments moments(10);
  for (int64_t row = 0; row < 1500; row += 60) moments.add(rows.x.narrow(0, row, 60));
  EXPECT_EQ(moments.rows(), 1500);
  EXPECT_LT((moments.mean() - rows.x.to(torch::kDouble).mean(0)).abs().max().item<double>(), 1e-12);
  const torch::Tensor covariance = torch::mm(rows.eigenvectors.t(), rows.eigenvalues.unsqueeze(1) * rows.eigenvectors);
  EXPECT_LT((moments.covariance() - covariance).abs().max().item<double>(), 1e-10);
}

TEST(PcaLearner, AtomsAreTheEigenvectorsOfTheCovarianceWithBothSigns) {
  const Rows rows;
  PcaLearner learner = rows.learner(8, 2);
  rows.learn(learner);
  const torch::Tensor atoms = learner.dictionary(Json::object())->atoms().to(torch::kDouble);
  ASSERT_EQ(atoms.sizes(), (std::vector<int64_t>{8, 10}));
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(std::abs(atoms[2 * i].dot(rows.eigenvectors[i]).item<double>()), 1.0, 1e-6) << i;
    EXPECT_TRUE(torch::equal(atoms[2 * i], -atoms[2 * i + 1])) << i;
  }
}

TEST(PcaLearner, WithAllComponentsTheFvuIsTheShareOfTheOtherEigenvalues) {
  const Rows rows;
  for (const int64_t components : {1, 4, 10}) {
    PcaLearner learner = rows.learner(2 * components, components);
    rows.learn(learner);
    const auto dictionary = learner.dictionary(Json::object());
    const SparseCodes codes = dictionary->encode(rows.x);
    ReconstructionFigures figures(2 * components, 10);
    figures.add(rows.x, codes, dictionary->decode(codes));
    const double kept = (rows.eigenvalues.narrow(0, 0, components).sum() / rows.eigenvalues.sum()).item<double>();
    EXPECT_NEAR(figures.fvu(), 1.0 - kept, 1e-5) << components;
    EXPECT_EQ(figures.l0(), static_cast<double>(components));
  }
}

TEST(PcaLearner, KeepsTheLargestProductsOfEitherSign) {
  const Rows rows;
  PcaLearner learner = rows.learner(20, 3);
  rows.learn(learner);
  const auto dictionary = learner.dictionary(Json::object());
  const SparseCodes codes = dictionary->encode(rows.x);
  const torch::Tensor centred = rows.x.to(torch::kDouble) - rows.x.to(torch::kDouble).mean(0);
  const torch::Tensor products = torch::mm(centred, rows.eigenvectors.t());
  const torch::Tensor wanted = std::get<0>(products.abs().topk(3)).square().sum(1);
  EXPECT_TRUE(torch::equal(codes.offsets, 3 * torch::arange(1501)));
  EXPECT_LT((codes.values.view({1500, 3}).square().sum(1) - wanted).abs().max().item<double>(), 1e-3);
  // Orthonormal atoms: the error is what the other products hold.
  const torch::Tensor errors = (rows.x - dictionary->decode(codes)).square().sum(1);
  EXPECT_LT((errors - (products.square().sum(1) - wanted)).abs().max().item<double>(), 1e-3);
}

TEST(PcaLearner, SizesThatCannotBeNameBothNumbers) {
  const Rows rows;
  EXPECT_TRUE(contains(error_from([&] { rows.learner(22, 2); }), {"--latents 22", "10", "at most 20"}));
  EXPECT_TRUE(contains(error_from([&] { rows.learner(7, 2); }), {"--latents 7", "even"}));
}

TEST(PcaLearner, RowsThatCannotBeAreRefused) {
  const Rows rows;
  PcaLearner learner = rows.learner(20, 2);
  torch::Tensor bad = rows.x.narrow(0, 0, 8).clone();
  bad[3][2] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(contains(error_from([&] { learner.step({bad, {}}, 0.0); }), {"row 3", "infinite"}));
  learner.step({torch::full({15, 10}, 0.1), {}}, 0.0);
  EXPECT_TRUE(contains(error_from([&] { learner.dictionary(Json::object()); }), {"pca", "15 rows", "20 latents"}));
  learner.step({torch::full({15, 10}, 0.1), {}}, 0.0);
  EXPECT_TRUE(contains(error_from([&] { learner.dictionary(Json::object()); }), {"pca", "all the same"}));
}

}  // namespace
}  // namespace sememe
