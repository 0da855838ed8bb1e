// The CUDA kernels and LibTorch's operations of the same meaning on the same rows, turn by turn. Needs a CUDA device.
//   cuda_kernels_torch_bench [rounds]
// The limit is the time in which a copy on the device moves the bytes that must be read and written once. Fails if results differ.

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/features/tensor_adam.h"
#include "sememe/features/tensor_codes.h"
#include "sememe/features/tensor_products.h"
#include "sememe/kernels/cuda/device.h"
#include "sememe/kernels/cuda/top_k.h"
#include "sememe/kernels/cuda/weighted_rows.h"

namespace {

using namespace sememe;
using Work = std::function<void()>;

constexpr int kRepetitions = 20;  // of what is queued before the device is waited for

double milliseconds(const Work& work) {
  torch::cuda::synchronize();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kRepetitions; ++i) work();
  torch::cuda::synchronize();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() / kRepetitions;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

/// Bytes that a copy on the device reads and writes in a millisecond.
double copy_rate() {
  const torch::Tensor from = torch::randn({int64_t{1} << 28}, torch::kCUDA);
  torch::Tensor to = torch::empty_like(from);
  const Work copy = [&] { to.copy_(from); };
  milliseconds(copy);
  return 2.0 * static_cast<double>(from.nbytes()) / milliseconds(copy);
}

void compare(const std::string& name, int rounds, double limit, const Work& theirs, const Work& ours) {
  std::vector<double> their_times, our_times;
  for (int round = -1; round < rounds; ++round) {  // the first round warms up
    const double one = milliseconds(theirs), other = milliseconds(ours);
    if (round < 0) continue;
    their_times.push_back(one);
    our_times.push_back(other);
  }
  fmt::print("{:<44} {:>8.3f} {:>8.3f} {:>8.3f}  {:>6.1f} {:>6.2f}\n", name, median(their_times), median(our_times), limit,
             median(their_times) / median(our_times), limit / median(our_times));
}

struct Workload {
  int64_t rows, width, latents, k;
};

/// Largest difference from float64 in parts of |a| |b|.
double error_of(const torch::Tensor& product, const torch::Tensor& a, const torch::Tensor& b) {
  const torch::Tensor exact = torch::mm(a.to(torch::kDouble), b.to(torch::kDouble).t());
  return ((product - exact).abs() / torch::outer(a.norm(2, {1}), b.norm(2, {1}))).max().item<double>();
}

void compare_products(const Workload& work, int rounds) {
  const torch::Tensor x = torch::randn({work.rows, work.width}, torch::kCUDA), matrix = torch::randn({work.latents, work.width}, torch::kCUDA);
  torch::Tensor theirs, ours;
  compare(
      fmt::format("[{}, {}] x [{}, {}], splitting included", work.rows, work.width, work.latents, work.width), rounds, 0,
      [&] { theirs = torch::mm(x, matrix.t()); }, [&] { ours = RowProducts(matrix).with(x); });
  const torch::Tensor some = x.narrow(0, 0, 256);
  fmt::print("{:<44} {:>8.1e} {:>8.1e}\n", "  largest error over |a| |b|", error_of(theirs.narrow(0, 0, 256), some, matrix),
             error_of(ours.narrow(0, 0, 256), some, matrix));
}

void compare_kernels(const Workload& work, int rounds, double rate) {
  const auto on = torch::TensorOptions(torch::kCUDA);
  const torch::Tensor pre_activations = torch::randn({work.rows, work.latents}, on);
  const torch::Tensor latents = torch::empty({work.rows, work.k}, on.dtype(torch::kInt)), counts = torch::empty({work.rows}, latents.options());
  const torch::Tensor kept = torch::empty({work.rows, work.k}, on), fault = torch::full({1}, work.rows, latents.options());
  const kernels::TopKOutput output{latents.data_ptr<int32_t>(), kept.data_ptr<float>(), counts.data_ptr<int32_t>()};
  const auto bytes = [&](std::initializer_list<torch::Tensor> tensors) {
    double sum = 0;
    for (const torch::Tensor& tensor : tensors) sum += static_cast<double>(tensor.nbytes());
    return sum / rate;
  };
  torch::Tensor their_values;
  const std::string shape = fmt::format("[{}, {}] k {}", work.rows, work.latents, work.k);
  compare(
      "top_k " + shape, rounds, bytes({pre_activations, latents, kept}), [&] { their_values = std::get<0>(pre_activations.topk(work.k)); },
      [&] {
        kernels::cuda::top_k(pre_activations.data_ptr<float>(), work.rows, work.latents, {.k = work.k}, output, fault.data_ptr<int32_t>(),
                             nullptr);
      });
  if (!their_values.relu().to(torch::kDouble).sum().allclose(kept.to(torch::kDouble).sum(), 1e-12)) fail("top_k: torch::topk selects others");

  const SparseCodes codes = top_k_by_tensors(pre_activations, {}, {.k = work.k});
  const torch::Tensor matrix = torch::randn({work.latents, work.width}, on), rows = torch::randn({work.rows, work.width}, on);
  const std::string entries = fmt::format("{} codes of width {}", codes.values.size(0), work.width);
  torch::Tensor their_sums, our_sums;
  const torch::Tensor atoms = codes.atoms.to(torch::kLong);
  const auto bag = [](const torch::Tensor& table, const torch::Tensor& places, const torch::Tensor& offsets, const torch::Tensor& weights) {
    return std::get<0>(torch::embedding_bag(table, places, offsets, false, 0, false, weights, true));
  };
  compare(
      "decode " + entries, rounds, bytes({matrix, rows, codes.atoms, codes.values}),
      [&] { their_sums = bag(matrix, atoms, codes.offsets, codes.values); }, [&] { our_sums = sum_by_codes(codes, matrix, {}); });
  if (!torch::allclose(their_sums, our_sums, 1e-3, 1e-4)) fail("decode: the results differ");

  torch::Tensor their_products, our_products;
  const torch::Tensor row_of = rows_of_entries(codes);
  compare(
      "products of pairs, " + entries, rounds, bytes({matrix, rows, codes.atoms, codes.values}),
      [&] { their_products = (rows.index_select(0, row_of) * matrix.index_select(0, codes.atoms)).sum(1); },
      [&] { our_products = dot_by_codes(codes, rows, matrix); });
  if (!torch::allclose(their_products, our_products, 1e-3, 1e-3)) fail("products: the results differ");

  const TensorColumns columns(codes, work.latents);
  const torch::Tensor row_places = columns.rows.to(torch::kLong), weights = codes.values.index_select(0, columns.entries);
  compare(
      "sums by latent, " + entries, rounds, bytes({matrix, rows, codes.atoms, codes.values}),
      [&] { their_sums = bag(rows, row_places, columns.offsets, weights); }, [&] { our_sums = columns.sum(codes.values, rows); });
  if (!torch::allclose(their_sums, our_sums, 1e-3, 1e-3)) fail("sums by latent: the results differ");
}

void compare_adam(const Workload& work, int rounds, double rate) {
  const auto rows = [&] { return torch::randn({work.latents, work.width}, torch::kCUDA); };
  torch::Tensor weights = rows(), first = rows(), second = rows().abs();
  const torch::Tensor gradients = rows(), steps = torch::full({}, 3.0, torch::kCUDA);
  const double limit = 7.0 * static_cast<double>(weights.nbytes()) / rate;  // four are read, three are written
  const auto step = kernels::AdamStep::at(3, 1e-4);
  const Work fused = [&] {
    at::_fused_adam_({weights}, {gradients}, {first}, {second}, {}, {steps}, 1e-4, 0.9, 0.999, 0.0, 6.25e-10, false, false);
  };
  const std::string shape = fmt::format("[{}, {}]", work.latents, work.width);
  compare("Adam " + shape, rounds, limit, fused, [&] { adam_by_tensors(step, weights, gradients, first, second); });
  compare("Adam of unit rows (theirs: of any) " + shape, rounds, limit, fused,
          [&] { adam_unit_rows_by_tensors(step, weights, gradients, first, second); });
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 7;
    if (!torch::cuda::is_available()) fail("this LibTorch sees no CUDA device");
    if (!kernels::cuda::available()) fail("the CUDA kernels are not in this build, or cannot run on this device");
    torch::manual_seed(1);
    const double rate = copy_rate();
    fmt::print("medians of {} rounds, ms; a copy moves {:.0f} GB/s\n", rounds, rate / 1e6);
    fmt::print("{:<44} {:>8} {:>8} {:>8}  {:>6} {:>6}\n", "", "LibTorch", "ours", "limit", "faster", "of it");
    for (const Workload& work :
         {Workload{4096, 768, 16384, 32}, Workload{4096, 768, 16384, 64}, Workload{8192, 128, 2048, 16}, Workload{4096, 2048, 65536, 64}}) {
      compare_products(work, rounds);
      compare_kernels(work, rounds, rate);
      compare_adam(work, rounds, rate);
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_kernels_torch_bench: {}\n", error.what());
    return 1;
  }
}
