#include "sememe/network/rms_norm.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace sememe {
namespace {

torch::Tensor pattern(int64_t rows, int64_t columns) {
  return (torch::arange(rows * columns, torch::kFloat64).pow(2) * 0.37).sin().view({rows, columns});
}

/// Equation 4 of the paper as it stands.
torch::Tensor plain(const torch::Tensor& rows, const torch::Tensor& weight, double epsilon) {
  return rows / (rows.pow(2).mean(-1, true) + epsilon).sqrt() * weight;
}

struct Gradients {
  torch::Tensor rows, weight;
};

template <class Function>
Gradients differentiate(const Function& function, const torch::Tensor& rows, const torch::Tensor& weight,
                        const torch::Tensor& pull) {
  torch::Tensor x = rows.clone().requires_grad_(), w = weight.clone().requires_grad_();
  (function(x, w, 1e-3) * pull).sum().backward();
  return {x.grad(), w.grad()};
}

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>();
}

TEST(RmsNorm, ValueAndGradientsAgreeWithThePlainFormulaInDoublePrecision) {
  for (const int64_t width : {1, 2, 7, 15, 16, 17, 33, 64, 100}) {
    for (const int64_t count : {1, 5, 33, 70, 200}) {  // fewer rows than parts of the gradient, and more
      const torch::Tensor rows = pattern(count, width) * 2, pull = pattern(count, width).cos();
      const torch::Tensor weight = torch::linspace(0.5, -1.5, width, torch::kFloat64);
      const Gradients expected = differentiate(plain, rows, weight, pull);
      const torch::Tensor x = rows.to(torch::kFloat32), w = weight.to(torch::kFloat32);
      const Gradients found = differentiate(rms_norm, x, w, pull.to(torch::kFloat32));
      EXPECT_LT(distance(rms_norm(x, w, 1e-3), plain(rows, weight, 1e-3)), 5e-6) << count << " x " << width;
      EXPECT_LT(distance(found.rows, expected.rows), 1e-5 * (1 + expected.rows.abs().max().item<double>()))
          << count << " x " << width;
      EXPECT_LT(distance(found.weight, expected.weight), 5e-5) << count << " x " << width;
    }
  }
}

TEST(RmsNorm, GradientsAgreeWithFiniteDifferences) {
  const torch::Tensor rows = pattern(3, 19), weight = torch::linspace(0.5, 1.5, 19, torch::kFloat64);
  const torch::Tensor pull = pattern(3, 19).cos();
  const Gradients found = differentiate(rms_norm, rows.to(torch::kFloat32), weight.to(torch::kFloat32), pull.to(torch::kFloat32));
  const auto value = [&](const torch::Tensor& x, const torch::Tensor& w) {
    return (plain(x, w, 1e-3) * pull).sum().item<double>();
  };
  constexpr double step = 1e-5;
  for (int64_t i = 0; i < rows.numel(); ++i) {
    torch::Tensor above = rows.clone(), below = rows.clone();
    above.view(-1)[i] += step;
    below.view(-1)[i] -= step;
    const double slope = (value(above, weight) - value(below, weight)) / (2 * step);
    EXPECT_NEAR(found.rows.view(-1)[i].item<double>(), slope, 1e-5) << i;
  }
  for (int64_t i = 0; i < weight.numel(); ++i) {
    torch::Tensor above = weight.clone(), below = weight.clone();
    above[i] += step;
    below[i] -= step;
    const double slope = (value(rows, above) - value(rows, below)) / (2 * step);
    EXPECT_NEAR(found.weight[i].item<double>(), slope, 1e-5) << i;
  }
}

RC_GTEST_PROP(RmsNorm, ScaleOfTheRowsDoesNotMatterAndGradientsAreAtRightAnglesToThem, ()) {
  const int64_t width = *rc::gen::inRange<int64_t>(1, 80), count = *rc::gen::inRange<int64_t>(1, 50);
  const double scale = *rc::gen::elementOf(std::vector<double>{1e-3, 0.5, 7.0, 1e4});
  torch::Tensor rows = (pattern(count, width) + 1.5).to(torch::kFloat32).requires_grad_();
  const torch::Tensor weight = torch::linspace(0.5, 1.5, width);
  const torch::Tensor normed = rms_norm(rows, weight, 1e-12);
  RC_ASSERT(distance(rms_norm(rows * scale, weight, 1e-12), normed) < 1e-4);
  (normed * pattern(count, width).cos().to(torch::kFloat32)).sum().backward();
  const torch::Tensor slope = (rows.grad() * rows.detach()).sum(-1);
  const torch::Tensor size = rows.grad().norm(2, -1) * rows.detach().norm(2, -1) + 1;
  RC_ASSERT((slope / size).abs().max().template item<float>() < 1e-4f);
}

TEST(RmsNorm, RowsOfZerosStayZerosWithAFiniteGradient) {
  const torch::Tensor rows = torch::zeros({2, 20}), weight = torch::ones({20});
  EXPECT_TRUE(rms_norm(rows, weight, 1e-4).equal(rows));
  torch::Tensor x = rows.clone().requires_grad_();
  rms_norm(x, weight, 1e-4).sum().backward();
  EXPECT_LT(distance(x.grad(), torch::full({2, 20}, 100.0)), 1e-3);  // 1 / sqrt(epsilon)
}

TEST(RmsNorm, NoRowsGiveNoRows) {
  torch::Tensor weight = torch::ones({20}).requires_grad_();
  const torch::Tensor normed = rms_norm(torch::zeros({0, 20}), weight, 1e-5);
  EXPECT_EQ(normed.sizes(), (std::vector<int64_t>{0, 20}));
  normed.sum().backward();
  EXPECT_TRUE(weight.grad().equal(torch::zeros({20})));
}

TEST(RmsNorm, StridesDoNotMatter) {
  const torch::Tensor tall = pattern(40, 6).to(torch::kFloat32), weight = torch::linspace(0.5, 1.5, 40);
  const torch::Tensor turned = tall.t(), pull = pattern(40, 6).cos().to(torch::kFloat32).t();
  const Gradients strided = differentiate(rms_norm, turned, weight, pull);
  const Gradients packed = differentiate(rms_norm, turned.contiguous(), weight, pull.contiguous());
  EXPECT_TRUE(rms_norm(turned, weight, 1e-5).equal(rms_norm(turned.contiguous(), weight, 1e-5)));
  EXPECT_TRUE(strided.rows.equal(packed.rows));
  EXPECT_TRUE(strided.weight.equal(packed.weight));
}

TEST(RmsNorm, GradientsDoNotDependOnTheNumberOfThreads) {
  const torch::Tensor rows = pattern(700, 48).to(torch::kFloat32), weight = torch::linspace(0.5, 1.5, 48);
  const torch::Tensor pull = pattern(700, 48).cos().to(torch::kFloat32);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Gradients one = differentiate(rms_norm, rows, weight, pull);
  at::set_num_threads(3);
  const Gradients three = differentiate(rms_norm, rows, weight, pull);
  at::set_num_threads(threads);
  EXPECT_TRUE(one.rows.equal(three.rows));
  EXPECT_TRUE(one.weight.equal(three.weight));
}

TEST(RmsNorm, OtherPrecisionsTakeLibTorchsWayAndAgree) {
  const torch::Tensor rows = pattern(5, 12), weight = torch::linspace(0.5, 1.5, 12, torch::kFloat64);
  const Gradients expected = differentiate(plain, rows, weight, rows.cos());
  const Gradients found = differentiate(rms_norm, rows, weight, rows.cos());
  EXPECT_LT(distance(rms_norm(rows, weight, 1e-3), plain(rows, weight, 1e-3)), 1e-12);
  EXPECT_LT(distance(found.rows, expected.rows), 1e-12);
  EXPECT_LT(distance(found.weight, expected.weight), 1e-12);
}

}  // namespace
}  // namespace sememe
