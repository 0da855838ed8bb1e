#include <gtest/gtest.h>

#include "tests/features/played_device.h"

namespace sememe {
namespace {

TEST(PlayedDevice, ComputesAsTheCpuDoes) {
  const torch::Tensor x = torch::randn({5, 4}), y = torch::randn({4, 3});
  const torch::Tensor there = x.to(played::kDevice);
  EXPECT_EQ(there.device(), played::kDevice);
  EXPECT_TRUE(torch::equal(there.cpu(), x));
  EXPECT_TRUE(torch::equal(torch::mm(there, y.to(played::kDevice)).cpu(), torch::mm(x, y)));
  EXPECT_TRUE(torch::equal((there.t() * 2.0).narrow(0, 1, 2).cpu(), (x.t() * 2.0).narrow(0, 1, 2)));
  EXPECT_EQ(there.sum().item<float>(), x.sum().item<float>());
}

TEST(PlayedDevice, DifferentiatesAsTheCpuDoes) {
  const auto gradient = [](const torch::Tensor& x) {
    const torch::Tensor leaf = x.detach().clone().requires_grad_(true);
    (leaf.square().sum(1).relu() * 3.0).mean().backward();
    return leaf.grad().cpu();
  };
  const torch::Tensor x = torch::randn({5, 4});
  EXPECT_TRUE(torch::equal(gradient(x.to(played::kDevice)), gradient(x)));
}

TEST(PlayedDevice, TensorsOfTwoDevicesDoNotMix) {
  const torch::Tensor x = torch::randn({5, 4}), there = x.to(played::kDevice);
  EXPECT_ANY_THROW(x + there);
  EXPECT_ANY_THROW(torch::mm(there, x.t()));
}

TEST(PlayedDevice, ItsMemoryIsNotTheCpus) {
  const torch::Tensor there = torch::ones({4}, played::kDevice);
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile float*>(there.data_ptr())), "");
}

}  // namespace
}  // namespace sememe
