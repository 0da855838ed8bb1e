// torch::topk and our top-k on the same rows with the same threads, turn by turn, so that what disturbs one disturbs both.
//   top_k_torch_bench [rounds]
// Prints medians in milliseconds and their ratio, and fails if the two select differently.

#include <fmt/format.h>
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/top_k.h"

namespace {

using namespace sememe;
using kernels::TopKOutput;

struct Workload {
  int64_t rows, width, k;
};

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void compare(const Workload& work, int rounds) {
  const auto rows = torch::randn({work.rows, work.width});
  const auto latents = torch::empty({work.rows, work.k}, torch::kInt32), counts = torch::empty({work.rows}, torch::kInt32);
  const auto values = torch::empty({work.rows, work.k});
  const TopKOutput output{latents.data_ptr<int32_t>(), values.data_ptr<float>(), counts.data_ptr<int32_t>()};
  torch::Tensor torch_latents;
  std::vector<double> torch_times, our_times;
  for (int round = -1; round < rounds; ++round) {  // the first round warms up
    const double theirs = milliseconds([&] { torch_latents = std::get<1>(torch::topk(rows, work.k)); });
    const double ours = milliseconds([&] {
      if (const auto bad = kernels::top_k(rows.data_ptr<float>(), work.rows, work.width, {.k = work.k}, output))
        fail("{}", describe(*bad));
    });
    if (round < 0) continue;
    torch_times.push_back(theirs);
    our_times.push_back(ours);
  }
  // Equal values at the edge may be chosen differently: the sums of what was chosen may not differ.
  const auto chosen = rows.gather(1, torch_latents).relu().to(torch::kFloat64).sum();
  if (!torch::allclose(chosen, values.to(torch::kFloat64).sum(), 1e-12)) fail("torch::topk and ours select differently");
  const double theirs = median(torch_times), ours = median(our_times);
  fmt::print("[{}, {}] k {:4}  torch::topk {:8.2f} ms  ours {:8.2f} ms  ratio {:5.1f}\n", work.rows, work.width, work.k,
             theirs, ours, theirs / ours);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 15;
    torch::manual_seed(1);
    torch::set_num_threads(thread_count());
    fmt::print("{} threads, medians of {} rounds\n", thread_count(), rounds);
    for (const Workload& work : {Workload{4096, 16384, 64}, Workload{4096, 16384, 16}, Workload{4096, 16384, 512},
                                 Workload{4096, 2048, 16}, Workload{4096, 2048, 32}, Workload{2048, 2048, 32}})
      compare(work, rounds);
  } catch (const std::exception& error) {
    fmt::print(stderr, "top_k_torch_bench: {}\n", error.what());
    return 1;
  }
}
