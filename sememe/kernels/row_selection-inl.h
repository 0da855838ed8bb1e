// The search for the k largest entries of a row, shared by the kernels that select: one -inl.h in Highway's way, compiled for each target.
//
// How a row is searched. The bits of floats > 0, read as signed integers, have the order of the floats, and everything else
// but NaN is <= 0; so all comparisons are of integers.
//  1. One pass over the row finds the largest entry of each of some 4 k groups. The k-th largest of these maxima is a bound
//     that at least k entries reach, and that few more do, however the row is ordered: equal steps apart, neighbours are in
//     different groups.
//  2. A second pass, over a row now in the cache, collects the entries that reach the bound, in order.
//  3. The k-th largest of those is found by halving the range of bits and counting (at most 31 times, fewer
//     where few values differ).

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_ROW_SELECTION_SHARED
#define SEMEME_KERNELS_ROW_SELECTION_SHARED

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace sememe::kernels {

// Room for one row, each array with a vector to spare.
struct RowScratch {
  static constexpr int64_t kSpare = 64;  // the widest vector (SVE, 2048 bits) in floats
  explicit RowScratch(int64_t width) : maxima(width + kSpare), latents(width + kSpare), bits(width + kSpare) {}
  std::vector<int32_t> maxima, latents, bits;
};

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_ROW_SELECTION_SHARED

#if defined(SEMEME_KERNELS_ROW_SELECTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEMEME_KERNELS_ROW_SELECTION_INL_H_
#undef SEMEME_KERNELS_ROW_SELECTION_INL_H_
#else
#define SEMEME_KERNELS_ROW_SELECTION_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Ints = hn::ScalableTag<int32_t>;
using Words = hn::ScalableTag<uint32_t>;
using Floats = hn::ScalableTag<float>;

constexpr int32_t kInfinityBits = 0x7F800000;
constexpr uint32_t kMinusInfinityBits = 0xFF800000;

HWY_INLINE hn::Vec<Ints> load_bits(const float* from) { return hn::BitCast(Ints(), hn::LoadU(Floats(), from)); }

/// The first `count` < lanes floats at `from`, then zeros; never reads further.
HWY_INLINE hn::Vec<Floats> load_partial(const float* from, int64_t count) {
  HWY_ALIGN float lanes[hn::MaxLanes(Floats())] = {};
  std::memcpy(lanes, from, count * sizeof(float));
  return hn::Load(Floats(), lanes);
}

HWY_INLINE hn::Vec<Ints> load_partial_bits(const float* from, int64_t count) {
  return hn::BitCast(Ints(), load_partial(from, count));
}

struct GroupMaxima {
  int64_t groups;   // written to scratch.maxima
  int32_t largest;  // bits of the row's largest entry, 0 if none is > 0
  bool rankable;    // neither NaN nor +inf
};

/// Step 1: splits the row into segments and each into 4 * lanes interleaved groups.
HWY_INLINE GroupMaxima find_group_maxima(const float* row, int64_t width, int64_t k, int32_t* maxima) {
  const Ints ints;
  const Words words;
  const int64_t lanes = hn::Lanes(ints), stride = 4 * lanes;
  const int64_t segments = std::clamp<int64_t>(k / lanes, 1, std::max<int64_t>(1, width / (4 * stride)));
  const int64_t segment = width / segments / stride * stride;
  auto largest = hn::Zero(ints);
  auto largest_word = hn::Zero(words);  // NaNs with a sign are above -inf when read without one
  int64_t at = 0, groups = 0;
  for (int64_t s = 0; s < segments && segment > 0; ++s) {
    auto max0 = hn::Zero(ints), max1 = max0, max2 = max0, max3 = max0;
    for (const int64_t end = at + segment; at < end; at += stride) {
      const auto bits0 = load_bits(row + at), bits1 = load_bits(row + at + lanes);
      const auto bits2 = load_bits(row + at + 2 * lanes), bits3 = load_bits(row + at + 3 * lanes);
      max0 = hn::Max(max0, bits0);
      max1 = hn::Max(max1, bits1);
      max2 = hn::Max(max2, bits2);
      max3 = hn::Max(max3, bits3);
      const auto word01 = hn::Max(hn::BitCast(words, bits0), hn::BitCast(words, bits1));
      const auto word23 = hn::Max(hn::BitCast(words, bits2), hn::BitCast(words, bits3));
      largest_word = hn::Max(largest_word, hn::Max(word01, word23));
    }
    hn::StoreU(max0, ints, maxima + groups);
    hn::StoreU(max1, ints, maxima + groups + lanes);
    hn::StoreU(max2, ints, maxima + groups + 2 * lanes);
    hn::StoreU(max3, ints, maxima + groups + 3 * lanes);
    groups += stride;
    largest = hn::Max(largest, hn::Max(hn::Max(max0, max1), hn::Max(max2, max3)));
  }
  auto rest = hn::Zero(ints);
  for (; at < width; at += lanes) {
    const auto bits = width - at >= lanes ? load_bits(row + at) : load_partial_bits(row + at, width - at);
    rest = hn::Max(rest, bits);
    largest_word = hn::Max(largest_word, hn::BitCast(words, bits));
  }
  hn::StoreU(rest, ints, maxima + groups);
  const int32_t top = hn::GetLane(hn::MaxOfLanes(ints, hn::Max(largest, rest)));
  const uint32_t top_word = hn::GetLane(hn::MaxOfLanes(words, largest_word));
  return {groups + lanes, top, top < kInfinityBits && top_word <= kMinusInfinityBits};
}

struct Split {
  int64_t reaching;           // how many entries are >= the bound
  int32_t smallest_reaching;  // the least of them
  int32_t largest_below;      // the largest of the others, or 0
};

/// Splits `count` entries at a bound > 0. What lies between count and the next whole vector must be 0.
HWY_INLINE Split split_at(const int32_t* bits, int64_t count, int32_t bound) {
  const Ints ints;
  const int64_t lanes = hn::Lanes(ints);
  const auto below = hn::Set(ints, bound - 1), most = hn::Set(ints, kInfinityBits);
  auto sum = hn::Zero(ints), largest_below = sum;  // each hit adds -1
  auto smallest_reaching = most;
  for (int64_t at = 0; at < count; at += lanes) {
    const auto entries = hn::LoadU(ints, bits + at);
    const auto reaches = hn::Gt(entries, below);
    sum = hn::Add(sum, hn::VecFromMask(ints, reaches));
    smallest_reaching = hn::Min(smallest_reaching, hn::IfThenElse(reaches, entries, most));
    largest_below = hn::Max(largest_below, hn::IfThenZeroElse(reaches, entries));
  }
  return {-int64_t{hn::GetLane(hn::SumOfLanes(ints, sum))}, hn::GetLane(hn::MinOfLanes(ints, smallest_reaching)),
          hn::GetLane(hn::MaxOfLanes(ints, largest_below))};
}

/// A bound in [low, high] that exactly k entries reach, or else the entry that at least k reach and fewer than k exceed;
/// `low` if fewer than k reach that. No entry may be > high.
HWY_INLINE int32_t find_bound(const int32_t* bits, int64_t count, int64_t k, int32_t low, int32_t high) {
  while (low < high) {
    const int32_t middle = low + (high - low + 1) / 2;
    const Split split = split_at(bits, count, middle);
    if (split.reaching == k) return middle;
    // Jumping to the next entry, not only past the middle, ends at once where few values differ.
    if (split.reaching > k)
      low = split.smallest_reaching;
    else
      high = split.largest_below;
  }
  return low;
}

/// Appends the entries of `bits` that reach the bound; may write one vector past the new end.
HWY_INLINE int64_t append(hn::Vec<Ints> bits, hn::Vec<Ints> below, int64_t latent, RowScratch& scratch, int64_t count) {
  const Ints ints;
  const auto reaches = hn::Gt(bits, below);
  // Compressing in a register and storing it whole: storing compressed is slow microcode on some processors.
  hn::StoreU(hn::Compress(bits, reaches), ints, scratch.bits.data() + count);
  hn::StoreU(hn::Compress(hn::Iota(ints, static_cast<int32_t>(latent)), reaches), ints, scratch.latents.data() + count);
  return count + static_cast<int64_t>(hn::CountTrue(ints, reaches));
}

/// Step 2. @return the number of entries collected in scratch.latents and scratch.bits
HWY_INLINE int64_t collect(const float* row, int64_t width, int32_t bound, RowScratch& scratch) {
  const Ints ints;
  const int64_t lanes = hn::Lanes(ints);
  const auto below = hn::Set(ints, bound - 1);
  int64_t at = 0, count = 0;
  for (; at + 4 * lanes <= width; at += 4 * lanes) {
    const auto bits0 = load_bits(row + at), bits1 = load_bits(row + at + lanes);
    const auto bits2 = load_bits(row + at + 2 * lanes), bits3 = load_bits(row + at + 3 * lanes);
    const auto largest = hn::Max(hn::Max(bits0, bits1), hn::Max(bits2, bits3));
    if (hn::AllFalse(ints, hn::Gt(largest, below))) continue;
    count = append(bits0, below, at, scratch, count);
    count = append(bits1, below, at + lanes, scratch, count);
    count = append(bits2, below, at + 2 * lanes, scratch, count);
    count = append(bits3, below, at + 3 * lanes, scratch, count);
  }
  for (; at < width; at += lanes) {
    const auto bits = width - at >= lanes ? load_bits(row + at) : load_partial_bits(row + at, width - at);
    count = append(bits, below, at, scratch, count);
  }
  hn::StoreU(hn::Zero(ints), ints, scratch.bits.data() + count);
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
