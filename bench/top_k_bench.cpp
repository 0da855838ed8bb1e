// Row-wise top-k against its scalar reference and against the limit: reading the input once.
//   top_k_bench --benchmark_filter=4096

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <vector>

#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/top_k.h"

namespace {

using namespace sememe;
using namespace sememe::kernels;

enum Order : int64_t { kNormal, kAscending, kDescending, kConstant, kTwoValued };
constexpr const char* kOrderNames[] = {"normal", "ascending", "descending", "constant", "two-valued"};

std::vector<float> make_rows(int64_t rows, int64_t width, Order order) {
  std::vector<float> values(rows * width);
  parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      RandomStream stream(row, "top-k bench");
      float* const first = values.data() + row * width;
      for (int64_t i = 0; i < width; ++i) first[i] = static_cast<float>(stream.normal());
      if (order == kAscending) std::sort(first, first + width);
      if (order == kDescending) std::sort(first, first + width, std::greater<>());
      if (order == kConstant) std::fill(first, first + width, 1.0f);
      if (order == kTwoValued)
        for (int64_t i = 0; i < width; ++i) first[i] = first[i] > 3.5f ? 1.0f : 0.5f;
    }
  });
  return values;
}

struct Output {
  Output(int64_t rows, int64_t k) : latents(rows * k), counts(rows), values(rows * k) {}
  TopKOutput pointers() { return {latents.data(), values.data(), counts.data()}; }
  std::vector<int32_t> latents, counts;
  std::vector<float> values;
};

void count_bytes(benchmark::State& state, int64_t floats) {
  state.SetBytesProcessed(state.iterations() * floats * static_cast<int64_t>(sizeof(float)));
}

void bench_top_k(benchmark::State& state) {
  const int64_t rows = state.range(0), width = state.range(1), k = state.range(2);
  const auto order = static_cast<Order>(state.range(3));
  const auto values = make_rows(rows, width, order);
  Output output(rows, k);
  for (auto _ : state) benchmark::DoNotOptimize(top_k(values.data(), rows, width, {.k = k}, output.pointers()));
  count_bytes(state, rows * width);
  state.SetLabel(kOrderNames[order]);
}

void bench_gradient_score(benchmark::State& state) {
  const int64_t rows = state.range(0), width = state.range(1), k = state.range(2);
  const auto values = make_rows(rows, width, kNormal);
  auto influence = make_rows(rows, width, kNormal);
  for (float& g : influence) g = std::abs(g);
  Output output(rows, k);
  const TopKOptions options{.k = k, .score = SelectionScore::kAdditive, .influence = influence.data(), .beta = 1.0f};
  for (auto _ : state) benchmark::DoNotOptimize(top_k(values.data(), rows, width, options, output.pointers()));
  count_bytes(state, 2 * rows * width);
}

void bench_reference(benchmark::State& state) {
  const int64_t rows = state.range(0), width = state.range(1), k = state.range(2);
  const auto values = make_rows(rows, width, kNormal);
  Output output(rows, k);
  for (auto _ : state) benchmark::DoNotOptimize(top_k_reference(values.data(), rows, width, {.k = k}, output.pointers()));
  count_bytes(state, rows * width);
}

void bench_reading_once(benchmark::State& state) {
  const int64_t rows = state.range(0), width = state.range(1);
  const auto values = make_rows(rows, width, kNormal);
  for (auto _ : state) {
    std::atomic<uint32_t> all = 0;
    parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
      uint32_t sum = 0;  // integers, so that the compiler may add in any order
      const auto* words = reinterpret_cast<const unsigned char*>(values.data());
      const auto* from = reinterpret_cast<const uint32_t*>(words) + begin * width;
      for (int64_t i = 0; i < (end - begin) * width; ++i) sum ^= from[i];
      all ^= sum;
    });
    benchmark::DoNotOptimize(all.load());
  }
  count_bytes(state, rows * width);
}

BENCHMARK(bench_top_k)->Args({4096, 16384, 64, kNormal})->Args({4096, 16384, 64, kAscending})
    ->Args({4096, 16384, 64, kDescending})->Args({4096, 16384, 64, kConstant})->Args({4096, 16384, 64, kTwoValued})
    ->Args({4096, 16384, 1024, kNormal})->Args({4096, 16384, 16384, kNormal})->Args({4096, 2048, 16, kNormal})
    ->Args({4096, 2048, 32, kNormal})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(bench_gradient_score)->Args({4096, 16384, 64})->Args({4096, 2048, 16})->Args({4096, 2048, 32})
    ->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(bench_reference)->Args({4096, 2048, 32})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(bench_reading_once)->Args({4096, 16384})->Args({4096, 2048})->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
