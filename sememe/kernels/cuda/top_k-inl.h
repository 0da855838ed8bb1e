#pragma once
// The top-k kernel. It includes nothing of CUDA, so that tests can also run it on the CPU (tests/kernels/cuda_on_cpu.h).

#include <cstdint>

#include "sememe/kernels/top_k.h"

namespace sememe::kernels::cuda {
namespace {  // what a test plays and what a library launches are two

constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;
constexpr int kSelectThreads = kDigits;  // of a block: one for each digit
constexpr int kWarp = 32, kSelectWarps = kSelectThreads / kWarp;

struct RowsToSelect {
  const float* pre_activations;  // [rows, width]
  const float* influence;        // [rows, width], null if ranked by value
  int32_t width, k;
  bool product;
  float beta;
  TopKOutput output;
  int32_t* first_unrankable;
};

/// One row's scores, as kernels/top_k.cpp computes them: each operation rounds by itself.
struct RowScores {
  const float *values, *influence;
  bool product;
  float beta;

  __device__ float score(int32_t latent) const {
    const float value = values[latent];
    if (influence == nullptr) return value;
    const float z = value > 0.0f ? value : 0.0f;
    return __fmul_rn(z, product ? influence[latent] : __fadd_rn(1.0f, __fmul_rn(beta, influence[latent])));
  }
  /// Ascends with the score; 0 for what is never selected.
  __device__ uint32_t rank(int32_t latent) const {
    const float of_latent = score(latent);
    return of_latent > 0.0f ? __float_as_uint(of_latent) : 0u;
  }
  __device__ bool rankable(int32_t latent) const {
    constexpr float kLargest = 3.402823466e38f;  // comparisons with NaN are false
    if (!(values[latent] <= kLargest)) return false;
    if (influence == nullptr) return true;
    return influence[latent] >= 0.0f && influence[latent] <= kLargest && score(latent) <= kLargest;
  }
};

/// Which ranks are kept: all above `bound`, and of those equal to it the first `ties`.
struct Bound {
  uint32_t bound;
  int32_t ties;
};

/// The k-th largest rank of a row, digit by digit from the highest: each time the ranks that begin as it does are counted by their next
/// digit.
__device__ inline Bound find_bound(const RowScores& row, int32_t width, int32_t k) {
  __shared__ int32_t counts[kDigits];
  __shared__ uint32_t found_digit;
  __shared__ int32_t found_above;
  const int thread = static_cast<int>(threadIdx.x);
  uint32_t known = 0, mask = 0;
  int32_t wanted = k;
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= kDigitBits) {
    counts[thread] = 0;
    __syncthreads();
    for (int32_t latent = thread; latent < width; latent += kSelectThreads) {
      const uint32_t rank = row.rank(latent);
      if (rank != 0 && (rank & mask) == known) atomicAdd(&counts[(rank >> shift) & (kDigits - 1)], 1);
    }
    __syncthreads();
    for (int step = 1; step < kDigits; step *= 2) {  // to how many have this digit or a higher one
      const int32_t more = thread + step < kDigits ? counts[thread + step] : 0;
      __syncthreads();
      counts[thread] += more;
      __syncthreads();
    }
    if (mask == 0 && counts[0] <= wanted) return {0, 0};  // no more than k are positive
    const int32_t above = thread + 1 < kDigits ? counts[thread + 1] : 0;
    if (counts[thread] >= wanted && above < wanted) {
      found_digit = static_cast<uint32_t>(thread);
      found_above = above;
    }
    __syncthreads();
    known |= found_digit << shift;
    mask |= static_cast<uint32_t>(kDigits - 1) << shift;
    wanted -= found_above;
  }
  return {known, wanted};
}

/// Writes the kept latents in ascending order. @return how many
__device__ inline int32_t keep_largest(const RowScores& row, int32_t width, int32_t k, Bound kept, int32_t* latents, float* values) {
  __shared__ int32_t warp_above[kSelectWarps], warp_ties[kSelectWarps];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  int32_t count = 0, ties_left = kept.ties;
  for (int32_t begin = 0; begin < width && count < k; begin += kSelectThreads) {
    const int32_t latent = begin + thread;
    const uint32_t rank = latent < width ? row.rank(latent) : 0;
    const bool above = rank > kept.bound, tie = rank == kept.bound && rank != 0;
    const uint32_t above_votes = __ballot_sync(0xffffffffu, above), tie_votes = __ballot_sync(0xffffffffu, tie);
    if (lane == 0) {
      warp_above[warp] = __popc(above_votes);
      warp_ties[warp] = __popc(tie_votes);
    }
    __syncthreads();
    const uint32_t lower_lanes = (1u << lane) - 1;
    int32_t above_before = __popc(above_votes & lower_lanes), ties_before = __popc(tie_votes & lower_lanes);
    int32_t all_above = 0, all_ties = 0;
    for (int other = 0; other < kSelectWarps; ++other) {
      if (other < warp) {
        above_before += warp_above[other];
        ties_before += warp_ties[other];
      }
      all_above += warp_above[other];
      all_ties += warp_ties[other];
    }
    if (above || (tie && ties_before < ties_left)) {
      const int32_t place = count + above_before + (ties_before < ties_left ? ties_before : ties_left);
      latents[place] = latent;
      values[place] = row.values[latent];
    }
    const int32_t ties_taken = all_ties < ties_left ? all_ties : ties_left;
    count += all_above + ties_taken;
    ties_left -= ties_taken;
    __syncthreads();
  }
  return count;
}

/// A block for each row.
__global__ void select_rows(RowsToSelect work) {
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  RowScores scores{work.pre_activations + row * work.width, work.influence == nullptr ? nullptr : work.influence + row * work.width,
                   work.product, work.beta};
  bool unrankable = false, influential = false;
  for (int32_t latent = thread; latent < work.width; latent += kSelectThreads) {
    unrankable = unrankable || !scores.rankable(latent);
    influential = influential || (scores.influence != nullptr && scores.influence[latent] > 0.0f);
  }
  if (__syncthreads_or(unrankable)) {
    if (thread == 0) atomicMin(work.first_unrankable, static_cast<int32_t>(row));
    return;
  }
  if (!__syncthreads_or(influential)) scores.influence = nullptr;
  int32_t* const latents = work.output.latents + row * work.k;
  float* const values = work.output.values + row * work.k;
  const Bound bound = find_bound(scores, work.width, work.k);
  const int32_t kept = keep_largest(scores, work.width, work.k, bound, latents, values);
  for (int32_t place = kept + thread; place < work.k; place += kSelectThreads) {
    latents[place] = -1;
    values[place] = 0.0f;
  }
  if (thread == 0) work.output.counts[row] = kept;
}

}  // namespace
}  // namespace sememe::kernels::cuda
