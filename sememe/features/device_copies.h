#pragma once
// Tensors that never change, copied to other devices when they are first asked for there.

#include <torch/torch.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

namespace sememe {

class DeviceCopies {
 public:
  /// @param tensor one that lives as long as this does
  /// @return the tensor itself where it is on the device
  torch::Tensor get(const torch::Tensor& tensor, torch::Device device) const {
    if (tensor.device() == device) return tensor;
    const std::lock_guard lock(kept_->mutex);
    torch::Tensor& copy = kept_->copies[{tensor.unsafeGetTensorImpl(), device.str()}];
    if (!copy.defined()) copy = tensor.to(device);
    return copy;
  }

 private:
  struct Kept {
    std::mutex mutex;
    std::map<std::pair<const void*, std::string>, torch::Tensor> copies;
  };
  std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();
};

}  // namespace sememe
