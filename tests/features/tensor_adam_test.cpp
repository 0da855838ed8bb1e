#include "sememe/features/tensor_adam.h"

#include <gtest/gtest.h>

#include "tests/features/on_device.h"

namespace sememe {
namespace {

class TensorAdam : public OnDevice<::testing::Test> {};
INSTANTIATE_TEST_SUITE_P(Devices, TensorAdam, every_device, name_of_device);

double off(const torch::Tensor& found, const torch::Tensor& wanted) { return (found.cpu() - wanted).abs().max().item<double>(); }

TEST_P(TensorAdam, StepsAsTheKernelDoes) {
  torch::manual_seed(1);
  torch::Tensor weights = torch::randn({40, 9}), first = torch::zeros({40, 9}), second = torch::zeros({40, 9});
  const torch::Tensor there = weights.to(device()).clone(), there_first = first.to(device()).clone(),
                      there_second = second.to(device()).clone();
  for (int64_t step = 1; step <= 20; ++step) {
    const torch::Tensor gradients = torch::randn({40, 9});
    const auto adam = kernels::AdamStep::at(step, 0.01);
    kernels::adam(adam, weights.data_ptr<float>(), gradients.data_ptr<float>(), first.data_ptr<float>(), second.data_ptr<float>(), 360);
    adam_by_tensors(adam, there, gradients.to(device()), there_first, there_second);
  }
  EXPECT_LT(off(there, weights), 1e-6);
  EXPECT_LT(off(there_first, first), 1e-6);
  EXPECT_LT(off(there_second, second), 1e-6);
}

TEST_P(TensorAdam, KeepsRowsAtUnitNormAsTheKernelDoes) {
  torch::manual_seed(2);
  torch::Tensor rows = torch::nn::functional::normalize(torch::randn({40, 9})), first = torch::zeros({40, 9}),
                second = torch::zeros({40, 9});
  const torch::Tensor there = rows.to(device()).clone(), there_first = first.to(device()).clone(),
                      there_second = second.to(device()).clone();
  for (int64_t step = 1; step <= 20; ++step) {
    torch::Tensor gradients = torch::randn({40, 9});
    const torch::Tensor there_gradients = gradients.to(device()).clone();
    const auto adam = kernels::AdamStep::at(step, 0.01);
    std::vector<float> norms;
    for (int64_t at = 0; at < 360; at += 9)
      norms.push_back(kernels::adam_unit_row(adam, rows.data_ptr<float>() + at, gradients.data_ptr<float>() + at,
                                             first.data_ptr<float>() + at, second.data_ptr<float>() + at, 9));
    EXPECT_LT(off(adam_unit_rows_by_tensors(adam, there, there_gradients, there_first, there_second), torch::tensor(norms)), 1e-6);
  }
  EXPECT_LT(off(there, rows), 1e-5);
  EXPECT_LT((there.norm(2, {1}) - 1.0).abs().max().item<double>(), 1e-6);
}

TEST_P(TensorAdam, LeavesARowWithoutANormAsItIs) {
  const torch::Tensor rows = torch::zeros({1, 4}, device()), gradients = torch::ones({1, 4}, device());
  const torch::Tensor first = torch::zeros({1, 4}, device()), second = torch::zeros({1, 4}, device());
  EXPECT_EQ(adam_unit_rows_by_tensors(kernels::AdamStep::at(1, 0.0), rows, gradients, first, second).item<float>(), 0.0f);
  EXPECT_TRUE(torch::equal(rows.cpu(), torch::zeros({1, 4})));
}

}  // namespace
}  // namespace sememe
