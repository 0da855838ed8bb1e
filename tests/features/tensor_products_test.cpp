#include "sememe/features/tensor_products.h"

#include <gtest/gtest.h>

#include "tests/features/on_device.h"

namespace sememe {
namespace {

class RowProductsTest : public OnDevice<::testing::Test> {};
INSTANTIATE_TEST_SUITE_P(Devices, RowProductsTest, every_device, name_of_device);

TEST_P(RowProductsTest, AreThoseOfDoublePrecisionUpToTwentyBits) {
  torch::manual_seed(1);
  const torch::Tensor matrix = torch::randn({70, 129}), x = torch::randn({33, 129}), bias = torch::randn({70});
  const RowProducts products(matrix.to(device()));
  const torch::Tensor exact = torch::mm(x.to(torch::kDouble), matrix.to(torch::kDouble).t());
  const torch::Tensor sizes = torch::outer(x.norm(2, {1}), matrix.norm(2, {1}));
  const auto off = [&](const torch::Tensor& found, const torch::Tensor& wanted) {
    return ((found.cpu() - wanted).abs() / sizes).max().item<double>();
  };
  EXPECT_LT(off(products.with(x.to(device())), exact), 1e-6);
  EXPECT_LT(off(products.with(x.to(device()), bias.to(device())), exact + bias), 1e-6);
  const bool before = at::globalContext().allowTF32CuBLAS();
  EXPECT_FALSE(before) << "other products are to stay in float32";
}

TEST(SplitForTf32, IsExactAndLeavesElevenBitsAbove) {
  torch::manual_seed(2);
  const torch::Tensor x = torch::cat({torch::randn({1000}) * torch::pow(10.0, torch::randn({1000}) * 5), torch::zeros({1})}).to(torch::kFloat);
  const auto [high, low] = split_for_tf32(x);
  EXPECT_TRUE(torch::equal(high + low, x));
  EXPECT_TRUE(torch::equal(high.view(torch::kInt).bitwise_and(0x1fff), torch::zeros({1001}, torch::kInt)));
  EXPECT_TRUE((low.abs() <= x.abs() * (1.0 / 2048)).all().item<bool>());
}

}  // namespace
}  // namespace sememe
