#include "sememe/network/adamw.h"

#include "sememe/base/error.h"

namespace sememe {

AdamW::AdamW(NamedTensors parameters, Options options) : parameters_(std::move(parameters)), options_(options) {
  for (const auto& [name, parameter] : parameters_) {
    first_.push_back(torch::zeros_like(parameter));
    second_.push_back(torch::zeros_like(parameter));
  }
}

void AdamW::step(double learning_rate) {
  torch::NoGradGuard no_grad;
  ++steps_;
  std::vector<torch::Tensor> parameters, gradients, first, second, steps;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].second.grad().defined()) continue;
    parameters.push_back(parameters_[i].second);
    gradients.push_back(parameters_[i].second.grad());
    first.push_back(first_[i]);
    second.push_back(second_[i]);
    steps.push_back(torch::tensor(static_cast<float>(steps_)).to(first_[i].device()));
  }
  if (parameters.empty()) return;
  at::_fused_adamw_(parameters, gradients, first, second, /*max_exp_avg_sqs=*/{}, steps, learning_rate, options_.beta1,
                    options_.beta2, options_.weight_decay, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
}

NamedTensors AdamW::state() const {
  NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    state.emplace_back("adamw/first/" + parameters_[i].first, first_[i]);
    state.emplace_back("adamw/second/" + parameters_[i].first, second_[i]);
  }
  state.emplace_back("adamw/steps", torch::tensor(steps_, torch::kInt64));
  return state;
}

void AdamW::load(const SafetensorsFile& file) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    first_[i].copy_(load_weight(file, "adamw/first/" + parameters_[i].first, first_[i].sizes()));
    second_[i].copy_(load_weight(file, "adamw/second/" + parameters_[i].first, second_[i].sizes()));
  }
  const torch::Tensor steps = load_tensor(file, "adamw/steps");
  if (steps.scalar_type() != torch::kInt64 || steps.numel() != 1)
    fail("{}: tensor \"adamw/steps\" must be one int64", file.path().string());
  steps_ = steps.item<int64_t>();
}

}  // namespace sememe
