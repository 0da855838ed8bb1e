// The dense product of semi-NMF, coefficients^T . activations: LibTorch's float32 product and ours on the same threads, turn by turn.
//   row_products_torch_bench [rounds]

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/row_products.h"

namespace {

using namespace sememe;

constexpr int64_t kPiece = 496;  // rows at a time, as in semi_nmf.cpp

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void compare(int64_t rows, int64_t width, int64_t features, int rounds) {
  const auto activations = torch::randn({rows, width}), coefficients = torch::rand({rows, features});
  std::vector<torch::Tensor> a, b;
  for (int64_t row = 0; row < rows; row += kPiece) {
    a.push_back(coefficients.narrow(0, row, std::min(kPiece, rows - row)).t().contiguous());
    b.push_back(activations.narrow(0, row, std::min(kPiece, rows - row)).t().contiguous());
  }
  const auto by_feature = coefficients.t().contiguous();
  torch::Tensor theirs, ours;
  std::vector<double> their_times, our_times;
  for (int round = -1; round < rounds; ++round) {  // the first round warms up
    const double theirs_took = milliseconds([&] { theirs = torch::mm(by_feature, activations); });
    const double ours_took = milliseconds([&] {
      ours = torch::zeros({width, features}, torch::kDouble);
      parallel_for(width, 64, [&](int64_t begin, int64_t end) {
        for (size_t piece = 0; piece < a.size(); ++piece) {
          const int64_t size = a[piece].size(1);
          kernels::add_row_products(b[piece].data_ptr<float>() + begin * size, end - begin, a[piece].data_ptr<float>(), features, size,
                                    ours.data_ptr<double>() + begin * features);
        }
      });
    });
    if (round < 0) continue;
    their_times.push_back(theirs_took);
    our_times.push_back(ours_took);
  }
  const auto exact = torch::mm(by_feature.to(torch::kDouble), activations.to(torch::kDouble));
  const auto error = [&](const torch::Tensor& found) { return ((found - exact).norm() / exact.norm()).item<double>(); };
  const double operations = 2e-6 * static_cast<double>(rows * width * features);  // millions
  fmt::print(
      "{} rows, width {}, {} features  LibTorch {:7.2f} ms, {:4.0f} GFLOPS, error {:.1e}  ours {:7.2f} ms, {:4.0f} GFLOPS, error {:.1e}  "
      "ratio {:.2f}\n",
      rows, width, features, median(their_times), operations / median(their_times), error(theirs), median(our_times),
      operations / median(our_times), error(ours.t()), median(their_times) / median(our_times));
}

}  // namespace

int main(int argc, char** argv) {
  torch::set_num_threads(thread_count());
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 15;
  compare(10'000, 3072, 100, rounds);
  compare(10'000, 3072, 50, rounds);
  compare(20'000, 768, 100, rounds);
  return 0;
}
