#pragma once
// Runs CUDA kernels on the CPU, for tests of what they compute where there is no device: a thread of the CPU plays each thread of a block,
// with a barrier for __syncthreads(), and blocks are played one after another. Include it before a kernel's -inl.h.

#include <algorithm>
#include <atomic>
#include <barrier>
#include <bit>
#include <climits>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

// What nvcc has as keywords. Shared variables are static here: one block is played at a time.
#define __global__ inline
#define __device__
#define __shared__ static

namespace sememe::kernels::cuda {

struct Place {
  unsigned x = 0, y = 0;
};
inline thread_local Place threadIdx, blockIdx;

/// What the threads of a block meet at.
struct Block {
  explicit Block(int threads) : all(threads), words(threads), numbers(threads) {
    for (int first = 0; first < threads; first += 32) warps.push_back(std::make_unique<std::barrier<>>(std::min(32, threads - first)));
  }
  std::barrier<> all;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<uint32_t> words;
  std::vector<float> numbers;

  void meet_warp() { warps[threadIdx.x / 32]->arrive_and_wait(); }
};
inline Block* played = nullptr;

inline void __syncthreads() { played->all.arrive_and_wait(); }
inline int __syncthreads_or(int given) {
  played->words[threadIdx.x] = given != 0;
  __syncthreads();
  const bool any = std::find(played->words.begin(), played->words.end(), 1u) != played->words.end();
  __syncthreads();
  return any;
}
inline uint32_t __ballot_sync(uint32_t, int given) {
  played->words[threadIdx.x] = given != 0;
  played->meet_warp();
  uint32_t votes = 0;
  const unsigned first = threadIdx.x / 32 * 32;
  for (unsigned lane = 0; lane < 32; ++lane) votes |= played->words[first + lane] << lane;
  played->meet_warp();
  return votes;
}
inline float __shfl_down_sync(uint32_t, float given, int distance) {
  played->numbers[threadIdx.x] = given;
  played->meet_warp();
  const float other = threadIdx.x % 32 + distance < 32 ? played->numbers[threadIdx.x + distance] : given;
  played->meet_warp();
  return other;
}
inline int32_t atomicAdd(int32_t* number, int32_t more) { return std::atomic_ref(*number).fetch_add(more); }
inline int32_t atomicMin(int32_t* number, int32_t other) {
  std::atomic_ref shared(*number);
  int32_t before = shared.load();
  while (other < before && !shared.compare_exchange_weak(before, other)) {
  }
  return before;
}
inline int __popc(uint32_t word) { return std::popcount(word); }
inline uint32_t __float_as_uint(float number) { return std::bit_cast<uint32_t>(number); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }

/// kernel<<<dim3(columns, rows), threads>>>(arguments...)
template <class Kernel, class... Arguments>
void play(unsigned columns, unsigned rows, int threads, const Kernel& kernel, const Arguments&... arguments) {
  Block block(threads);
  played = &block;
  std::vector<std::thread> players;
  for (int thread = 0; thread < threads; ++thread)
    players.emplace_back([&, thread] {
      threadIdx = {static_cast<unsigned>(thread), 0};
      for (unsigned y = 0; y < rows; ++y)
        for (unsigned x = 0; x < columns; ++x) {
          blockIdx = {x, y};
          kernel(arguments...);
          __syncthreads();
        }
    });
  for (std::thread& player : players) player.join();
  played = nullptr;
}

}  // namespace sememe::kernels::cuda
