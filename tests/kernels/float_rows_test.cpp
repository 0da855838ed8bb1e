#include "sememe/kernels/float_rows.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/kernels/every_target.h"

namespace sememe::kernels {
namespace {

/// One byte past an aligned address, as a file may have it.
template <class Number>
struct Misaligned {
  explicit Misaligned(const std::vector<Number>& numbers) : bytes(numbers.size() * sizeof(Number) + 1) {
    if (!numbers.empty()) std::memcpy(bytes.data() + 1, numbers.data(), numbers.size() * sizeof(Number));
  }
  const std::byte* data() const { return bytes.data() + 1; }
  std::vector<std::byte> bytes;
};

TEST(WidenFloat16, EveryNumberIsTheSameOnEveryTarget) {
  std::vector<uint16_t> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const Misaligned<uint16_t> stored(all);
  std::vector<float> wanted(all.size());
  EXPECT_FALSE(widen_float16_reference(stored.data(), 1 << 16, wanted.data()));
  EXPECT_EQ(wanted[0x3C00], 1.0f);
  EXPECT_EQ(wanted[0xC400], -4.0f);
  EXPECT_EQ(wanted[0x7BFF], 65504.0f);
  EXPECT_EQ(wanted[0x0001], std::ldexp(1.0f, -24));
  EXPECT_EQ(wanted[0xFC00], -std::numeric_limits<float>::infinity());
  on_every_target([&] {
    std::vector<float> values(all.size());
    EXPECT_FALSE(widen_float16(stored.data(), 1 << 16, values.data()));
    for (size_t i = 0; i < all.size(); ++i) {
      if (std::isnan(wanted[i]))
        ASSERT_TRUE(std::isnan(values[i])) << i;
      else
        ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(wanted[i])) << i;
    }
  });
}

TEST(FloatRows, OneBadNumberAnywhereIsNoticed) {
  on_every_target([] {
    for (const int64_t n : kWidths) {
      std::vector<uint16_t> halves(n, 0x7BFF);
      std::vector<float> floats(n, std::numeric_limits<float>::max()), values(n);
      EXPECT_TRUE(widen_float16(Misaligned(halves).data(), n, values.data()));
      EXPECT_TRUE(copy_float32(Misaligned(floats).data(), n, values.data()));
      EXPECT_EQ(values, floats);
      for (const int64_t at : {int64_t{0}, n / 2, n - 1}) {
        if (at < 0 || at >= n) continue;
        for (const uint16_t bad : {0x7C00, 0xFC00, 0x7E00, 0xFC01}) {
          halves[at] = bad;
          EXPECT_FALSE(widen_float16(Misaligned(halves).data(), n, values.data())) << n << " " << at;
          halves[at] = 0x7BFF;
        }
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
          floats[at] = bad;
          EXPECT_FALSE(copy_float32(Misaligned(floats).data(), n, values.data())) << n << " " << at;
          EXPECT_FALSE(copy_float32_reference(Misaligned(floats).data(), n, values.data())) << n << " " << at;
          floats[at] = std::numeric_limits<float>::max();
        }
      }
    }
  });
}

}  // namespace
}  // namespace sememe::kernels
