#pragma once
// AdamW (Loshchilov and Hutter 2019, algorithm 2), with its state in reach so that a run can be resumed bit for bit.

#include <torch/torch.h>

#include "sememe/network/tensors.h"

namespace sememe {

class AdamW {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.0;
  };
  AdamW(NamedTensors parameters, Options options);

  /// One step from the parameters' gradients; those without a gradient stay.
  void step(double learning_rate);
  /// The moments by name "adamw/first/<parameter>", "adamw/second/<parameter>", and the number of steps, "adamw/steps".
  NamedTensors state() const;
  /// @throws Error naming file and tensor
  void load(const SafetensorsFile& file);

 private:
  NamedTensors parameters_;
  Options options_;
  std::vector<torch::Tensor> first_, second_;
  int64_t steps_ = 0;
};

}  // namespace sememe
