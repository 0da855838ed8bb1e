#include "sememe/kernels/row_products.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels/every_target.h"
#include "tests/kernels/random_codes.h"

namespace sememe::kernels {
namespace {

TEST(RowProducts, AddsEveryRowTimesEveryRow) {
  const std::vector<float> a{1, 2, 3, 4}, b{1, 0, 0, 1, 10, 100};
  on_every_target([&] {
    std::vector<double> sums(2 * 3, 1000);
    add_row_products(a.data(), 2, b.data(), 3, 2, sums.data());
    EXPECT_EQ(sums, (std::vector<double>{1001, 1002, 1210, 1003, 1004, 1430}));
  });
}

TEST(RowProducts, AgreeWithTheReferenceAtEverySize) {
  on_every_target([] {
    for (const int64_t width : kWidths)
      for (const auto& [a_rows, b_rows] : {std::pair<int64_t, int64_t>{1, 1}, {3, 5}, {4, 4}, {9, 6}, {0, 3}, {3, 0}}) {
        const auto a = random_matrix(a_rows, width, "a"), b = random_matrix(b_rows, width, "b");
        std::vector<double> sums(a_rows * b_rows, 0.5), reference = sums;
        add_row_products(a.data(), a_rows, b.data(), b_rows, width, sums.data());
        add_row_products_reference(a.data(), a_rows, b.data(), b_rows, width, reference.data());
        for (size_t i = 0; i < sums.size(); ++i)
          ASSERT_NEAR(sums[i], reference[i], 1e-6 * (1.0 + static_cast<double>(width))) << width << ", " << i;
      }
  });
}

TEST(RowProducts, AProductDoesNotDependOnItsNeighbours) {
  const auto a = random_matrix(7, 100, "a"), b = random_matrix(9, 100, "b");
  on_every_target([&] {
    std::vector<double> together(7 * 9), alone(7 * 9);
    add_row_products(a.data(), 7, b.data(), 9, 100, together.data());
    for (int64_t i = 0; i < 7; ++i)
      for (int64_t j = 0; j < 9; ++j) add_row_products(a.data() + i * 100, 1, b.data() + j * 100, 1, 100, alone.data() + i * 9 + j);
    EXPECT_EQ(together, alone);
  });
}

}  // namespace
}  // namespace sememe::kernels
