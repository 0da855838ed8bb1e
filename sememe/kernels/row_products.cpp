#include "sememe/kernels/row_products.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/row_products.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;

// Products in a block: with what they are made of they fill the registers, 32 of AVX-512 and 16 before it.
constexpr int64_t kBlockA = HWY_TARGET <= HWY_AVX3 ? 4 : 3;
constexpr int64_t kBlockB = 4;
constexpr int64_t kLine = 16;  // floats of a cache line

namespace {

#if HWY_TARGET != HWY_SCALAR  // which has vectors of one lane
template <class D>
HWY_INLINE void store_sum_of_fours(D d, hn::Vec<D> fours, float* sums) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    hn::StoreU(fours, d, sums);
  } else {
    const hn::Half<D> half;
    store_sum_of_fours(half, hn::Add(hn::LowerHalf(half, fours), hn::UpperHalf(half, fours)), sums);
  }
}
#endif

/// The sum of the lanes of each of four vectors.
HWY_INLINE void store_sums(const Vector (&vectors)[4], float* sums) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t i = 0; i < 4; ++i) sums[i] = hn::GetLane(vectors[i]);
#else
  const Floats floats;
  const hn::Repartition<double, Floats> pairs;
  const auto add_neighbours = [&](Vector a, Vector b) HWY_ATTR {
    return hn::BitCast(pairs, hn::Add(hn::InterleaveLower(floats, a, b), hn::InterleaveUpper(floats, a, b)));
  };
  const auto a = add_neighbours(vectors[0], vectors[1]), b = add_neighbours(vectors[2], vectors[3]);
  store_sum_of_fours(
      floats, hn::Add(hn::BitCast(floats, hn::InterleaveLower(pairs, a, b)), hn::BitCast(floats, hn::InterleaveUpper(pairs, a, b))), sums);
#endif
}

}  // namespace

void add_row_products_vector(const float* HWY_RESTRICT a, int64_t a_rows, const float* HWY_RESTRICT b, int64_t b_rows, int64_t width,
                             double* HWY_RESTRICT sums) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats), whole = width / lanes * lanes;
  float block[kBlockA][kBlockB];
  for (int64_t i = 0; i < a_rows; i += kBlockA) {
    const int64_t a_count = std::min(kBlockA, a_rows - i);
    const float* a_at[kBlockA];
    for (int64_t x = 0; x < kBlockA; ++x) a_at[x] = a + (i + std::min(x, a_count - 1)) * width;  // what is beyond the last is not stored
    // The rows of a that follow are fetched bit by bit meanwhile: in turn, one would wait for memory at the start of every block.
    const int64_t next_begin = (i + a_count) * width, next_end = std::min(i + a_count + kBlockA, a_rows) * width;
    for (int64_t j = 0; j < b_rows; j += kBlockB) {
      const int64_t b_count = std::min(kBlockB, b_rows - j);
      const float* b_at[kBlockB];
      for (int64_t y = 0; y < kBlockB; ++y) b_at[y] = b + (j + std::min(y, b_count - 1)) * width;
      for (int64_t at = next_begin + j / kBlockB * kLine; at < next_end; at += (b_rows + kBlockB - 1) / kBlockB * kLine)
        hwy::Prefetch(a + at);
      Vector products[kBlockA][kBlockB];
      for (int64_t x = 0; x < kBlockA; ++x)
        for (int64_t y = 0; y < kBlockB; ++y) products[x][y] = hn::Zero(floats);
      for (int64_t at = 0; at < whole; at += lanes) {
        Vector a_now[kBlockA];
        for (int64_t x = 0; x < kBlockA; ++x) a_now[x] = hn::LoadU(floats, a_at[x] + at);
        for (int64_t y = 0; y < kBlockB; ++y) {
          const Vector b_now = hn::LoadU(floats, b_at[y] + at);
          for (int64_t x = 0; x < kBlockA; ++x) products[x][y] = hn::MulAdd(a_now[x], b_now, products[x][y]);
        }
      }
      for (int64_t x = 0; x < kBlockA; ++x) store_sums(products[x], block[x]);
      for (int64_t x = 0; x < a_count; ++x)
        for (int64_t y = 0; y < b_count; ++y) {
          float sum = block[x][y];
          for (int64_t at = whole; at < width; ++at) sum += a_at[x][at] * b_at[y][at];
          sums[(i + x) * b_rows + j + y] += sum;
        }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(add_row_products_vector);

void add_row_products(const float* a, int64_t a_rows, const float* b, int64_t b_rows, int64_t width, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_row_products_vector)(a, a_rows, b, b_rows, width, sums);
}

void add_row_products_reference(const float* a, int64_t a_rows, const float* b, int64_t b_rows, int64_t width, double* sums) {
  for (int64_t i = 0; i < a_rows; ++i)
    for (int64_t j = 0; j < b_rows; ++j) {
      float sum = 0;
      for (int64_t at = 0; at < width; ++at) sum += a[i * width + at] * b[j * width + at];
      sums[i * b_rows + j] += sum;
    }
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
