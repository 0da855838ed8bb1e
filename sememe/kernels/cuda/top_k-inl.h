#pragma once
// The top-k kernel. It includes nothing of CUDA, so that tests can also run it on the CPU (tests/kernels/cuda_on_cpu.h).

#include <cstdint>

#include "sememe/kernels/top_k.h"

namespace sememe::kernels::cuda {
namespace {  // what a test plays and what a library launches are two

// A rank has 31 bits, which are looked at in three digits. The first holds the exponent and three bits more, so that counts of one bin by many
// threads, which wait for each other, are few.
constexpr int kFirstShift = 20, kDigitBits = 10;  // of the first digit, and of those below it
constexpr int kDigits = 1 << (31 - kFirstShift);
constexpr int kSelectThreads = 512;  // of a block
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
  uint32_t* ranks;  // [width] in fast memory, or null: then they are computed each time

  __device__ float score(int32_t latent) const {
    const float value = values[latent];
    if (influence == nullptr) return value;
    const float z = value > 0.0f ? value : 0.0f;
    return __fmul_rn(z, product ? influence[latent] : __fadd_rn(1.0f, __fmul_rn(beta, influence[latent])));
  }
  /// Ascends with the score; 0 for what is never selected.
  __device__ uint32_t computed_rank(int32_t latent) const {
    const float of_latent = score(latent);
    return of_latent > 0.0f ? __float_as_uint(of_latent) : 0u;
  }
  __device__ uint32_t rank(int32_t latent) const { return ranks != nullptr ? ranks[latent] : computed_rank(latent); }
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

/// What the threads of a block share.
struct Shared {
  int32_t counts[kDigits];
  int32_t from_thread[kSelectThreads];
  int32_t warp_above[kSelectWarps], warp_ties[kSelectWarps];
  int32_t digit, above;
};

__device__ inline void clear_counts(Shared& shared) {
  for (int32_t digit = static_cast<int32_t>(threadIdx.x); digit < kDigits; digit += kSelectThreads) shared.counts[digit] = 0;
}

/// The digit of the `wanted`-th largest of those that were counted, in shared.digit; in shared.above how many have a higher one. All threads meet
/// before and behind it.
/// @return how many were counted
__device__ inline int32_t find_digit(Shared& shared, int32_t wanted) {
  constexpr int32_t kOwn = kDigits / kSelectThreads;
  const int thread = static_cast<int>(threadIdx.x), first = thread * kOwn;
  int32_t own = 0;
  for (int i = 0; i < kOwn; ++i) own += shared.counts[first + i];
  shared.from_thread[thread] = own;
  __syncthreads();
  for (int step = 1; step < kSelectThreads; step *= 2) {  // to how many have a digit of this thread's or a higher one
    const int32_t more = thread + step < kSelectThreads ? shared.from_thread[thread + step] : 0;
    __syncthreads();
    shared.from_thread[thread] += more;
    __syncthreads();
  }
  int32_t above = thread + 1 < kSelectThreads ? shared.from_thread[thread + 1] : 0;
  for (int digit = first + kOwn - 1; digit >= first; --digit) {
    if (above < wanted && above + shared.counts[digit] >= wanted) {
      shared.digit = digit;
      shared.above = above;
    }
    above += shared.counts[digit];
  }
  __syncthreads();
  return shared.from_thread[0];
}

/// The k-th largest rank, whose first digit is found: each time the ranks that begin as it does are counted by their next digit.
__device__ inline Bound find_bound(const RowScores& row, int32_t width, int32_t k, Shared& shared) {
  uint32_t known = static_cast<uint32_t>(shared.digit) << kFirstShift;
  int32_t wanted = k - shared.above;
  for (int shift = kFirstShift - kDigitBits; shift >= 0; shift -= kDigitBits) {
    __syncthreads();
    clear_counts(shared);
    __syncthreads();
    const int known_shift = shift + kDigitBits;
    for (int32_t latent = static_cast<int32_t>(threadIdx.x); latent < width; latent += kSelectThreads) {
      const uint32_t rank = row.rank(latent);
      if (rank != 0 && rank >> known_shift == known >> known_shift) atomicAdd(&shared.counts[(rank >> shift) & ((1u << kDigitBits) - 1)], 1);
    }
    __syncthreads();
    find_digit(shared, wanted);
    known |= static_cast<uint32_t>(shared.digit) << shift;
    wanted -= shared.above;
  }
  __syncthreads();
  return {known, wanted};
}

/// Calls write(place, latent, rank) for what is kept, places being in the order of latents: a warp for each part of the row, first to count, then to
/// write. All threads meet behind it.
/// @return how many are kept
template <class Write>
__device__ inline int32_t write_in_order(const RowScores& row, int32_t width, Bound kept, Shared& shared, const Write& write) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int32_t part = (width + kSelectThreads - 1) / kSelectThreads * kWarp;
  const int32_t begin = warp * part, end = begin + part < width ? begin + part : width;
  const uint32_t lower_lanes = (1u << lane) - 1;
  int32_t above = 0, ties = 0;
  for (int32_t from = begin; from < end; from += kWarp) {
    const uint32_t rank = from + lane < end ? row.rank(from + lane) : 0;
    above += __popc(__ballot_sync(0xffffffffu, rank > kept.bound));
    if (kept.ties > 0) ties += __popc(__ballot_sync(0xffffffffu, rank == kept.bound));
  }
  if (lane == 0) {
    shared.warp_above[warp] = above;
    shared.warp_ties[warp] = ties;
  }
  __syncthreads();
  int32_t all_above = 0, all_ties = 0;
  for (int other = 0; other < kSelectWarps; ++other) {
    if (other == warp) {
      above = all_above;
      ties = all_ties;
    }
    all_above += shared.warp_above[other];
    all_ties += shared.warp_ties[other];
  }
  for (int32_t from = begin; from < end; from += kWarp) {
    const uint32_t rank = from + lane < end ? row.rank(from + lane) : 0;
    const uint32_t above_votes = __ballot_sync(0xffffffffu, rank > kept.bound);
    const uint32_t tie_votes = kept.ties > 0 ? __ballot_sync(0xffffffffu, rank == kept.bound) : 0;
    const int32_t ties_before = ties + __popc(tie_votes & lower_lanes);
    if (rank > kept.bound || (kept.ties > 0 && rank == kept.bound && ties_before < kept.ties))
      write(above + __popc(above_votes & lower_lanes) + (ties_before < kept.ties ? ties_before : kept.ties), from + lane, rank);
    above += __popc(above_votes);
    ties += __popc(tie_votes);
  }
  __syncthreads();
  return all_above + (all_ties < kept.ties ? all_ties : kept.ties);
}

/// As write_in_order() for a list of at most kSelectThreads (rank, latent) in the order of latents, of which the k largest are kept: each thread
/// counts those before its own.
template <class Write>
__device__ inline int32_t write_of_list(const uint32_t* ranks, const int32_t* latents, int32_t count, int32_t k, Shared& shared,
                                        const Write& write) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = thread % kWarp;
  const uint32_t rank = thread < count ? ranks[thread] : 0;
  int32_t before = k;
  if (thread < count) {
    before = 0;
    for (int32_t other = 0; other < count; ++other) before += ranks[other] > rank || (ranks[other] == rank && other < thread);
  }
  const uint32_t votes = __ballot_sync(0xffffffffu, before < k);
  if (lane == 0) shared.warp_above[warp] = __popc(votes);
  __syncthreads();
  int32_t place = __popc(votes & ((1u << lane) - 1)), all = 0;
  for (int other = 0; other < kSelectWarps; ++other) {
    if (other == warp) place += all;
    all += shared.warp_above[other];
  }
  if (before < k) write(place, latents[thread], rank);
  return all;
}

/// Ranks a latent, into the block's fast memory and by its first digit.
__device__ inline void rank_latent(const RowScores& row, int32_t latent, Shared& shared) {
  const uint32_t rank = row.computed_rank(latent);
  if (row.ranks != nullptr) row.ranks[latent] = rank;
  if (rank != 0) atomicAdd(&shared.counts[rank >> kFirstShift], 1);
}

/// The work of a block: row blockIdx.x.
/// @param ranks [width] of the block's fast memory, or null
__device__ inline void select_row(const RowsToSelect& work, uint32_t* ranks) {
  __shared__ Shared shared;
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x);
  RowScores scores{work.pre_activations + row * work.width, work.influence == nullptr ? nullptr : work.influence + row * work.width,
                   work.product, work.beta, ranks};
  clear_counts(shared);
  __syncthreads();
  bool unrankable = false, influential = false;
  for (int32_t latent = thread; latent < work.width; latent += kSelectThreads) {
    unrankable = unrankable || !scores.rankable(latent);
    if (scores.influence == nullptr)
      rank_latent(scores, latent, shared);
    else
      influential = influential || scores.influence[latent] > 0.0f;
  }
  if (__syncthreads_or(unrankable)) {
    if (thread == 0) atomicMin(work.first_unrankable, static_cast<int32_t>(row));
    return;
  }
  if (scores.influence != nullptr) {
    if (!__syncthreads_or(influential)) scores.influence = nullptr;
    for (int32_t latent = thread; latent < work.width; latent += kSelectThreads) rank_latent(scores, latent, shared);
    __syncthreads();
  }
  const int32_t positive = find_digit(shared, work.k);
  int32_t* const latents = work.output.latents + row * work.k;
  float* const values = work.output.values + row * work.k;
  const auto keep = [&](int32_t place, int32_t latent, uint32_t) {
    latents[place] = latent;
    values[place] = scores.values[latent];
  };
  int32_t kept = 0;
  if (positive <= work.k) {
    kept = write_in_order(scores, work.width, {0, 0}, shared, keep);
  } else if (const int32_t candidates = shared.above + shared.counts[shared.digit]; candidates <= kSelectThreads) {
    const uint32_t least = static_cast<uint32_t>(shared.digit) << kFirstShift;
    __syncthreads();
    int32_t* const listed = shared.counts;  // which are no longer wanted
    auto* const listed_ranks = reinterpret_cast<uint32_t*>(shared.counts + kSelectThreads);
    write_in_order(scores, work.width, {least == 0 ? 0 : least - 1, 0}, shared, [&](int32_t place, int32_t latent, uint32_t rank) {
      listed[place] = latent;
      listed_ranks[place] = rank;
    });
    kept = write_of_list(listed_ranks, listed, candidates, work.k, shared, keep);
  } else {
    const Bound bound = find_bound(scores, work.width, work.k, shared);
    kept = write_in_order(scores, work.width, bound, shared, keep);
  }
  for (int32_t place = kept + thread; place < work.k; place += kSelectThreads) {
    latents[place] = -1;
    values[place] = 0.0f;
  }
  if (thread == 0) work.output.counts[row] = kept;
}

}  // namespace
}  // namespace sememe::kernels::cuda
