#include "sememe/network/muon.h"

#include <algorithm>
#include <cmath>

namespace sememe {

torch::Tensor orthogonalize(const torch::Tensor& matrix) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
  const bool tall = matrix.size(0) > matrix.size(1);  // the product XX^T is then taken on the shorter side
  torch::Tensor x = tall ? matrix.t() : matrix;
  x = x / (x.norm() + 1e-7);
  for (int step = 0; step < 5; ++step) {
    const torch::Tensor gram = torch::mm(x, x.t());
    const torch::Tensor polynomial = torch::addmm(gram, gram, gram, b, c);
    x = torch::addmm(x, polynomial, x, a, 1.0);
  }
  return tall ? x.t() : x;
}

Muon::Muon(NamedTensors parameters, Options options) : parameters_(std::move(parameters)), options_(options) {
  for (const auto& [name, parameter] : parameters_) momentum_.push_back(torch::zeros_like(parameter));
}

void Muon::step(double learning_rate) {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    torch::Tensor& parameter = parameters_[i].second;
    const torch::Tensor& gradient = parameter.grad();
    if (!gradient.defined()) continue;
    momentum_[i].lerp_(gradient, 1.0 - options_.momentum);
    const torch::Tensor update = orthogonalize(gradient.lerp(momentum_[i], options_.momentum));
    const double scale = std::sqrt(std::max(1.0, static_cast<double>(parameter.size(0)) / parameter.size(1)));
    if (options_.weight_decay != 0) parameter.mul_(1.0 - learning_rate * options_.weight_decay);
    parameter.add_(update, -learning_rate * scale);
  }
}

NamedTensors Muon::state() const {
  NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) state.emplace_back("muon/" + parameters_[i].first, momentum_[i]);
  return state;
}

void Muon::load(const SafetensorsFile& file) {
  for (size_t i = 0; i < parameters_.size(); ++i)
    momentum_[i].copy_(load_weight(file, "muon/" + parameters_[i].first, momentum_[i].sizes()));
}

}  // namespace sememe
