#pragma once
// Sparse codes and matrices with random content, the same in every run.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "sememe/base/random.h"
#include "sememe/kernels/code_rows.h"

namespace sememe::kernels {

/// Rows of 0 to 5 distinct ascending atoms (fewer where the dictionary is smaller).
struct RandomCodes {
  RandomCodes(int64_t rows, int64_t size, uint64_t seed) : offsets{0} {
    RandomStream stream(seed, "random codes");
    for (int64_t row = 0; row < rows; ++row) {
      auto order = permutation(size, stream);
      order.resize(std::min<int64_t>(size, static_cast<int64_t>(stream.below(6))));
      std::sort(order.begin(), order.end());
      for (const int64_t atom : order) {
        atoms.push_back(static_cast<int32_t>(atom));
        values.push_back(static_cast<float>(0.1 + stream.uniform()));
      }
      offsets.push_back(static_cast<int64_t>(atoms.size()));
    }
  }
  CodeRows view() const { return {static_cast<int64_t>(offsets.size()) - 1, offsets.data(), atoms.data(), values.data()}; }

  std::vector<int64_t> offsets;
  std::vector<int32_t> atoms;
  std::vector<float> values;
};

inline std::vector<float> random_matrix(int64_t rows, int64_t width, std::string_view name) {
  RandomStream stream(1, name);
  std::vector<float> values(rows * width);
  for (float& value : values) value = static_cast<float>(stream.normal());
  return values;
}

/// Sums in another order, or with fused products, may differ in the last bits.
inline void expect_close(const std::vector<float>& found, const std::vector<float>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], wanted[i], 2e-4f * std::max(1.0f, std::abs(wanted[i]))) << "at " << i;
}

}  // namespace sememe::kernels
