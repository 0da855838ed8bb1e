#pragma once
// Tests that run on every device: INSTANTIATE_TEST_SUITE_P(Devices, NAME, every_device, name_of_device). "played" is a device that the CPU
// plays (played_device.h). Where LibTorch can use no CUDA device the tests on it are skipped and say so.

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <string>
#include <vector>

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

/// As module.to(device), which LibTorch refuses for devices that it does not know: the handles of parameters stay, what they hold moves.
inline void move_module(torch::nn::Module& module, torch::Device device) {
  const torch::NoGradGuard no_autograd;
  for (const std::vector<torch::Tensor>& tensors : {module.parameters(), module.buffers()})
    for (const torch::Tensor& tensor : tensors)
      tensor.unsafeGetTensorImpl()->shallow_copy_from(tensor.detach().to(device).getIntrusivePtr());
}

inline const auto every_device = ::testing::Values("cpu", "played", "cuda");

inline std::string name_of_device(const ::testing::TestParamInfo<const char*>& info) { return info.param; }

}  // namespace sememe
