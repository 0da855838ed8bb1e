// The multiplicative step of semi-NMF, tile by tile as there: against its scalar reference, against the same formula by LibTorch with dense
// products, and against the limit: reading coefficients and products once and writing as much.
//   multiplicative_step_torch_bench [rounds]

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <vector>

#include "sememe/base/threads.h"
#include "sememe/kernels/multiplicative_step.h"

namespace {

using namespace sememe;

constexpr int64_t kPiece = 496;  // rows at a time, as in semi_nmf.cpp
constexpr float kRidge = 1e-6f, kLeast = 1e-30f;

/// Of processor time, all threads together: what else runs on the cores does not count.
double milliseconds(const std::function<void()>& work) {
  const std::clock_t start = std::clock();
  work();
  return 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// The entries of a matrix that are not zero, row by row.
struct Entries {
  explicit Entries(const torch::Tensor& matrix) {
    const auto values_of = matrix.accessor<float, 2>();
    for (int64_t i = 0; i < matrix.size(0); ++i) {
      for (int64_t j = 0; j < matrix.size(1); ++j)
        if (values_of[i][j] != 0) atoms.push_back(static_cast<int32_t>(j)), values.push_back(values_of[i][j]);
      offsets.push_back(static_cast<int64_t>(atoms.size()));
    }
  }
  kernels::CodeRows view() const { return {static_cast<int64_t>(offsets.size()) - 1, offsets.data(), atoms.data(), values.data()}; }
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> atoms;
  std::vector<float> values;
};

/// @param kept units of a feature: how many of its products with others are zero depends on it
void compare(int64_t rows, int64_t width, int64_t features, int64_t kept, int rounds) {
  torch::Tensor found = torch::zeros({features, width});
  for (int64_t i = 0; i < features; ++i) found[i].index_put_({torch::randperm(width).narrow(0, 0, kept)}, torch::randn({kept}));
  const torch::Tensor squares = found.mm(found.t()), up = (-squares).clamp_min(0), down = squares.clamp_min(0);
  const torch::Tensor coefficients = torch::rand({features, rows}), products = torch::randn({features, rows});
  const Entries up_entries(up), down_entries(down);
  const std::vector<float> scales(features, 1.0f);
  std::vector<torch::Tensor> coefficient_tiles, product_tiles, next_tiles;
  for (int64_t row = 0; row < rows; row += kPiece) {
    const int64_t size = std::min(kPiece, rows - row);
    coefficient_tiles.push_back(coefficients.narrow(1, row, size).contiguous());
    product_tiles.push_back(products.narrow(1, row, size).contiguous());
    next_tiles.push_back(torch::empty({features, size}));
  }
  const auto tile_by_tile = [&](auto step) {
    parallel_for(static_cast<int64_t>(next_tiles.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        step({coefficient_tiles[i].data_ptr<float>(), product_tiles[i].data_ptr<float>(), coefficient_tiles[i].size(1), up_entries.view(),
              down_entries.view(), scales.data(), kRidge, kLeast},
             next_tiles[i].data_ptr<float>());
    });
  };
  torch::Tensor theirs, limit = torch::empty_like(coefficients);
  const std::array<std::function<void()>, 4> ways = {
      [&] { tile_by_tile(kernels::multiplicative_step); }, [&] { tile_by_tile(kernels::multiplicative_step_reference); },
      [&] {
        theirs = coefficients *
                 ((products.clamp_min(0) + up.mm(coefficients)) / ((-products).clamp_min(0) + down.mm(coefficients) + kRidge)).sqrt();
      },
      [&] { torch::mul_out(limit, coefficients, products); }};
  for (const auto& way : ways) way();  // warms up
  ways[0]();
  const double apart = ((torch::cat(next_tiles, 1) - theirs).norm() / theirs.norm()).item<double>();
  std::array<std::vector<double>, 4> times;
  for (int round = 0; round < rounds; ++round)
    for (size_t i = 0; i < ways.size(); ++i) times[i].push_back(milliseconds(ways[i]));
  const double ours = median(times[0]);
  const double filled = static_cast<double>(up_entries.atoms.size() + down_entries.atoms.size()) / static_cast<double>(features * features);
  fmt::print("{} rows, {} features of {} units, {:.0f} % of their products not zero  ours {:.2f} ms  reference {:.2f} ms ({:.1f})  "
             "LibTorch {:.2f} ms ({:.1f}), {:.0e} apart  reading and writing once {:.2f} ms ({:.2f})\n",
             rows, features, kept, 100 * filled, ours, median(times[1]), median(times[1]) / ours, median(times[2]), median(times[2]) / ours,
             apart, median(times[3]), median(times[3]) / ours);
}

}  // namespace

int main(int argc, char** argv) {
  torch::manual_seed(1);
  torch::set_num_threads(thread_count());
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 15;
  compare(10'000, 3072, 100, 31, rounds);
  compare(10'000, 768, 100, 8, rounds);
  compare(10'000, 768, 50, 16, rounds);
  return 0;
}
