#pragma once
// Muon: momentum, made orthogonal, for the matrices inside a network (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

#include <torch/torch.h>

#include <string>

#include "sememe/network/tensors.h"

namespace sememe {

/// Nearly the orthogonal matrix nearest to `matrix` ([rows, columns] float32): five steps of the quintic Newton-Schulz iteration
/// X <- aX + (bA + cA^2)X, A = XX^T, (a, b, c) = (3.4445, -4.7750, 2.0315). Singular values of at least 0.0015 of the
/// matrix's norm end within [0.68, 1.21].
torch::Tensor orthogonalize(const torch::Tensor& matrix);

class Muon {
 public:
  struct Options {
    double momentum = 0.95;  ///< Nesterov
    double weight_decay = 0.0;
  };
  /// @param parameters matrices [rows, columns]
  Muon(NamedTensors parameters, Options options);

  /// One step from the parameters' gradients; the update is scaled by sqrt(max(1, rows / columns)).
  void step(double learning_rate);
  /// The momentum by name "muon/<parameter>".
  NamedTensors state() const;
  /// @throws Error naming file and tensor
  void load(const SafetensorsFile& file);

 private:
  NamedTensors parameters_;
  Options options_;
  std::vector<torch::Tensor> momentum_;
};

}  // namespace sememe
