#include "sememe/kernels/quantized_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/quantized_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Below this, 127 / max is not finite; such a block is as good as zero.
constexpr float kLeastMaximum = 1e-30f;

void quantize_blocks_vector(const float* HWY_RESTRICT values, int64_t first, int64_t last, int8_t* HWY_RESTRICT codes,
                            float* HWY_RESTRICT scales, int32_t* HWY_RESTRICT sums) {
  constexpr int64_t kBlock = QuantizedRows::kBlock, kHalf = QuantizedRows::kHalf;
  const hn::CappedTag<float, kHalf> floats;
  const hn::Rebind<int32_t, decltype(floats)> ints;
  const hn::Rebind<int8_t, decltype(floats)> bytes;
  const auto lanes = static_cast<int64_t>(hn::Lanes(floats));
  for (int64_t block = first; block < last; ++block) {
    const float* const from = values + block * kBlock;
    auto maximum = hn::Zero(floats), wrong = hn::Zero(floats);
    for (int64_t i = 0; i < kBlock; i += lanes) {
      const auto now = hn::LoadU(floats, from + i);
      maximum = hn::Max(maximum, hn::Abs(now));
      wrong = hn::Add(wrong, hn::Sub(now, now));  // NaN once a value is not finite
    }
    const float largest = hn::GetLane(hn::MaxOfLanes(floats, maximum));
    const bool zero = !(largest >= kLeastMaximum);
    scales[block] = (zero ? 0.0f : largest / 127.0f) + hn::GetLane(hn::SumOfLanes(floats, wrong));
    if (!(scales[block] < std::numeric_limits<float>::infinity())) {  // the scale says it; a code for NaN there is none
      std::fill_n(codes + block * kBlock, kBlock, int8_t{0});
      sums[block * 2] = sums[block * 2 + 1] = 0;
      continue;
    }
    const auto inverse = hn::Set(floats, zero ? 0.0f : 127.0f / largest);
    for (int64_t half = 0; half < 2; ++half) {
      auto sum = hn::Zero(ints);
      for (int64_t i = half * kHalf; i < (half + 1) * kHalf; i += lanes) {
        const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(floats, from + i), inverse));
        sum = hn::Add(sum, rounded);
        hn::StoreU(hn::DemoteTo(bytes, rounded), bytes, codes + block * kBlock + i);
      }
      sums[block * 2 + half] = hn::GetLane(hn::SumOfLanes(ints, sum));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {

HWY_EXPORT(quantize_blocks_vector);

void QuantizedRows::resize(int64_t rows, int64_t new_width) {
  width = new_width;
  const auto grow = [](auto& values, int64_t size) {
    if (static_cast<int64_t>(values.size()) < size) values.resize(size);
  };
  grow(codes, rows * width), grow(scales, rows * width / kBlock), grow(sums, rows * width / kHalf);
}

void quantize_blocks(const float* values, int64_t row, int64_t first, int64_t last, QuantizedRows& rows) {
  HWY_DYNAMIC_DISPATCH(quantize_blocks_vector)
  (values, first, last, rows.codes.data() + row * rows.width, rows.scales.data() + row * rows.width / QuantizedRows::kBlock,
   rows.sums.data() + row * rows.width / QuantizedRows::kHalf);
}

void quantize_blocks_reference(const float* values, int64_t row, int64_t first, int64_t last, QuantizedRows& rows) {
  constexpr int64_t kBlock = QuantizedRows::kBlock, kHalf = QuantizedRows::kHalf;
  for (int64_t block = first; block < last; ++block) {
    float largest = 0.0f, wrong = 0.0f;
    for (int64_t i = block * kBlock; i < (block + 1) * kBlock; ++i) {
      largest = std::max(largest, std::abs(values[i]));
      wrong += values[i] - values[i];
    }
    const bool zero = !(largest >= 1e-30f);
    rows.scales[row * rows.width / kBlock + block] = (zero ? 0.0f : largest / 127.0f) + wrong;
    for (int64_t half = 0; half < 2; ++half) rows.sums[row * rows.width / kHalf + 2 * block + half] = 0;
    for (int64_t i = block * kBlock; i < (block + 1) * kBlock; ++i) {
      const float rounded = std::nearbyint(zero ? 0.0f : values[i] * (127.0f / largest));
      const auto code = static_cast<int8_t>(wrong == 0.0f ? rounded : 0.0f);
      rows.codes[row * rows.width + i] = code;
      rows.sums[row * rows.width / kHalf + i / kHalf] += code;
    }
  }
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
