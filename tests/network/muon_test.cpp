#include "sememe/network/muon.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "sememe/base/error.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

torch::Tensor pattern(int64_t rows, int64_t columns) {
  return (torch::arange(rows * columns, torch::kFloat32).pow(2) * 0.37).sin().view({rows, columns});
}

/// A matrix of given singular values, float64.
torch::Tensor with_singular_values(int64_t rows, int64_t columns, const torch::Tensor& values) {
  const auto [u, ignored, v] = torch::linalg_svd(pattern(rows, columns).to(torch::kFloat64), false, std::nullopt);
  return torch::mm(u * values, v);
}

/// The iteration on one singular value, as the paper writes it.
torch::Tensor iterated(torch::Tensor values) {
  for (int step = 0; step < 5; ++step) values = 3.4445 * values - 4.7750 * values.pow(3) + 2.0315 * values.pow(5);
  return values;
}

RC_GTEST_PROP(Muon, OrthogonalizedSingularValuesLieInTheStatedRange, ()) {
  const int64_t rows = *rc::gen::inRange<int64_t>(1, 24), columns = *rc::gen::inRange<int64_t>(1, 24);
  const double smallest = *rc::gen::elementOf(std::vector<double>{1.0, 0.3, 0.05, 0.01});
  const double size = *rc::gen::elementOf(std::vector<double>{1e-3, 1.0, 1e4});
  const torch::Tensor values = torch::linspace(1.0, smallest, std::min(rows, columns), torch::kFloat64);
  const torch::Tensor matrix = (with_singular_values(rows, columns, values) * size).to(torch::kFloat32);
  const torch::Tensor found = torch::linalg_svdvals(orthogonalize(matrix), std::nullopt);
  RC_ASSERT(found.max().item<float>() < 1.21f);
  RC_ASSERT(found.min().item<float>() > 0.68f);
}

TEST(Muon, OrthogonalizeKeepsTheSingularVectorsAndIteratesTheValues) {
  for (const auto& [rows, columns] : {std::pair{9, 5}, {5, 9}, {6, 6}, {1, 7}, {7, 1}}) {
    const torch::Tensor values = torch::linspace(3.0, 0.1, std::min(rows, columns), torch::kFloat64);
    const torch::Tensor matrix = with_singular_values(rows, columns, values);
    const torch::Tensor expected = with_singular_values(rows, columns, iterated(values / values.norm()));
    const torch::Tensor found = orthogonalize(matrix.to(torch::kFloat32)).to(torch::kFloat64);
    EXPECT_LT((found - expected).abs().max().item<double>(), 1e-4) << rows << " x " << columns;
  }
}

TEST(Muon, AZeroGradientMovesNothing) {
  torch::Tensor weight = pattern(3, 4).requires_grad_();
  weight.mutable_grad() = torch::zeros({3, 4});
  Muon({{"weight", weight}}, {}).step(0.1);
  EXPECT_TRUE(weight.equal(pattern(3, 4)));
}

TEST(Muon, StepsFollowTheEquationsWrittenPlainly) {
  for (const auto& [rows, columns] : {std::pair{40, 10}, {10, 40}}) {
    torch::Tensor weight = pattern(rows, columns).requires_grad_();
    torch::Tensor expected = pattern(rows, columns), momentum = torch::zeros({rows, columns});
    Muon muon({{"weight", weight}}, {.momentum = 0.9, .weight_decay = 0.2});
    const double scale = rows == 40 ? 2.0 : 1.0;  // sqrt(max(1, rows / columns))
    for (int step = 0; step < 4; ++step) {
      const torch::Tensor gradient = (weight.detach() * 2 + step).cos();
      weight.mutable_grad() = gradient.clone();
      muon.step(0.05);
      momentum = 0.9 * momentum + 0.1 * gradient;
      const torch::Tensor update = orthogonalize(0.1 * gradient + 0.9 * momentum);  // Nesterov
      expected = expected * (1 - 0.05 * 0.2) - 0.05 * scale * update;
      ASSERT_LT((weight - expected).abs().max().item<float>(), 1e-4f) << rows << ", step " << step;
    }
  }
}

TEST(Muon, StateLoadedIntoAnotherGoesOnBitForBitAndOtherShapesAreRefused) {
  const fs::path file = fs::temp_directory_path() / ("sememe_muon_" + std::to_string(::getpid()) + ".safetensors");
  torch::Tensor unbroken = pattern(4, 6).requires_grad_(), resumed = torch::zeros({4, 6}).requires_grad_();
  Muon first({{"weight", unbroken}}, {}), second({{"weight", resumed}}, {});
  unbroken.mutable_grad() = pattern(4, 6).cos();
  first.step(0.1);
  save_tensors(file, first.state());
  second.load(SafetensorsFile(file));
  resumed.data().copy_(unbroken.detach());
  unbroken.mutable_grad() = pattern(4, 6).sin();
  resumed.mutable_grad() = pattern(4, 6).sin();
  first.step(0.1);
  second.step(0.1);
  EXPECT_TRUE(unbroken.equal(resumed));
  Muon turned({{"weight", torch::zeros({6, 4}).requires_grad_()}}, {});
  EXPECT_THROW(turned.load(SafetensorsFile(file)), Error);
  fs::remove(file);
}

}  // namespace
}  // namespace sememe
