#pragma once
// Tests that run on every device: INSTANTIATE_TEST_SUITE_P(Devices, NAME, every_device, name_of_device). Where LibTorch can use no CUDA device
// those on it are skipped and say so.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>

namespace sememe {

template <class Fixture>
class OnDevice : public Fixture, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (device().is_cuda() && !torch::cuda::is_available()) GTEST_SKIP() << "LibTorch can use no CUDA device here";
    Fixture::SetUp();
  }
  torch::Device device() const { return torch::Device(this->GetParam()); }
};

inline const auto every_device = ::testing::Values("cpu", "cuda");

inline std::string name_of_device(const ::testing::TestParamInfo<const char*>& info) { return info.param; }

}  // namespace sememe
