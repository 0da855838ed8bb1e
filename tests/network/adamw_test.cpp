#include "sememe/network/adamw.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "sememe/base/error.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

torch::Tensor pattern(int64_t rows, int64_t columns) {
  return (torch::arange(rows * columns, torch::kFloat32).pow(2) * 0.37).sin().view({rows, columns});
}

torch::Tensor gradient_at(const torch::Tensor& parameter, int step) { return (parameter.detach() * 3 + step).cos(); }

struct AdamWState : ::testing::Test {
  AdamWState() { fs::remove(file); }
  ~AdamWState() override { fs::remove(file); }
  fs::path file = fs::temp_directory_path() / ("sememe_adamw_" + std::to_string(::getpid()) + ".safetensors");
};

TEST(AdamW, AgreesWithLibTorchOverManyStepsWithWeightDecayAndChangingRates) {
  torch::Tensor ours[] = {pattern(5, 7).requires_grad_(), pattern(1, 300).requires_grad_()};
  torch::Tensor theirs[] = {pattern(5, 7).requires_grad_(), pattern(1, 300).requires_grad_()};
  AdamW optimizer({{"matrix", ours[0]}, {"row", ours[1]}}, {.beta1 = 0.8, .beta2 = 0.97, .epsilon = 1e-6, .weight_decay = 0.3});
  torch::optim::AdamW reference(std::vector<torch::Tensor>{theirs[0], theirs[1]},
                                torch::optim::AdamWOptions(1.0).betas({0.8, 0.97}).eps(1e-6).weight_decay(0.3));
  for (int step = 0; step < 150; ++step) {
    const double rate = 0.02 / (1 + step % 5);
    for (int i = 0; i < 2; ++i) {
      ours[i].mutable_grad() = gradient_at(ours[i], step);
      theirs[i].mutable_grad() = gradient_at(theirs[i], step);
    }
    optimizer.step(rate);
    static_cast<torch::optim::AdamWOptions&>(reference.param_groups()[0].options()).lr(rate);
    reference.step();
  }
  for (int i = 0; i < 2; ++i) EXPECT_LT((ours[i] - theirs[i]).abs().max().item<float>(), 2e-5f) << i;
}

TEST(AdamW, AParameterWithoutGradientStaysAsItIs) {
  torch::Tensor moved = pattern(2, 3).requires_grad_(), still = pattern(2, 3).requires_grad_();
  AdamW optimizer({{"moved", moved}, {"still", still}}, {.weight_decay = 0.5});
  moved.mutable_grad() = torch::ones({2, 3});
  optimizer.step(0.1);
  EXPECT_FALSE(moved.equal(pattern(2, 3)));
  EXPECT_TRUE(still.equal(pattern(2, 3)));
}

TEST_F(AdamWState, LoadedIntoAnotherOptimizerGoesOnBitForBit) {
  torch::Tensor unbroken = pattern(4, 4).requires_grad_(), resumed = torch::zeros({4, 4}).requires_grad_();
  AdamW first({{"weight", unbroken}}, {.weight_decay = 0.1});
  const auto step = [](AdamW& optimizer, torch::Tensor& parameter, int number) {
    parameter.mutable_grad() = gradient_at(parameter, number);
    optimizer.step(0.01);
  };
  for (int number = 0; number < 5; ++number) step(first, unbroken, number);
  save_tensors(file, first.state());
  AdamW second({{"weight", resumed}}, {.weight_decay = 0.1});
  second.load(SafetensorsFile(file));
  resumed.data().copy_(unbroken.detach());
  for (int number = 5; number < 10; ++number) {
    step(first, unbroken, number);
    step(second, resumed, number);
  }
  EXPECT_TRUE(unbroken.equal(resumed));
}

TEST_F(AdamWState, OfOtherParametersIsRefusedByFileAndTensor) {
  AdamW other({{"other", torch::zeros({2}).requires_grad_()}}, {});
  save_tensors(file, other.state());
  AdamW mine({{"mine", torch::zeros({2}).requires_grad_()}}, {});
  try {
    mine.load(SafetensorsFile(file));
    FAIL();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(file.string()), std::string::npos) << message;
    EXPECT_NE(message.find("adamw/first/mine"), std::string::npos) << message;
  }
}

TEST_F(AdamWState, WithoutAWholeNumberOfStepsIsRefused) {
  AdamW optimizer({{"weight", torch::zeros({2}).requires_grad_()}}, {});
  NamedTensors state = optimizer.state();
  state.back().second = torch::zeros({2});
  save_tensors(file, state);
  EXPECT_THROW(optimizer.load(SafetensorsFile(file)), Error);
}

}  // namespace
}  // namespace sememe
