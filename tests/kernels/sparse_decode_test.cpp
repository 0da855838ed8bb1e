#include "sememe/kernels/sparse_decode.h"

#include <gtest/gtest.h>

#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "tests/kernels/every_target.h"
#include "tests/kernels/random_codes.h"

namespace sememe::kernels {
namespace {

TEST(SparseDecode, AddsWeightedAtomsToTheBias) {
  const std::vector<int64_t> offsets{0, 2, 2, 3};
  const std::vector<int32_t> atoms{0, 2, 1};
  const std::vector<float> values{2, 0.5f, 3}, matrix{1, 10, 2, 20, 4, 40}, bias{100, 200};
  on_every_target([&] {
    std::vector<float> rows(6, -7);
    sparse_decode({3, offsets.data(), atoms.data(), values.data()}, matrix.data(), 3, 2, bias.data(), rows.data());
    EXPECT_EQ(rows, (std::vector<float>{104, 240, 100, 200, 106, 260}));
    sparse_decode({3, offsets.data(), atoms.data(), values.data()}, matrix.data(), 3, 2, nullptr, rows.data());
    EXPECT_EQ(rows, (std::vector<float>{4, 40, 0, 0, 6, 60}));
  });
}

TEST(SparseDecode, AgreesWithTheReferenceAtEverySize) {
  on_every_target([] {
    for (const int64_t width : kWidths) {
      const RandomCodes codes(13, 9, width);
      const auto matrix = random_matrix(9, width, "atoms"), bias = random_matrix(1, width, "bias");
      auto rows = random_matrix(13, width, "overwritten"), reference = rows;
      sparse_decode(codes.view(), matrix.data(), 9, width, bias.data(), rows.data());
      sparse_decode_reference(codes.view(), matrix.data(), 9, width, bias.data(), reference.data());
      expect_close(rows, reference);
    }
  });
}

TEST(SparseDecode, ThreadsDoNotChangeABit) {
  const RandomCodes codes(500, 64, 1);
  const auto matrix = random_matrix(64, 130, "atoms");
  std::vector<float> alone(500 * 130), together(500 * 130);
  const int threads = thread_count();
  set_thread_count(1);
  sparse_decode(codes.view(), matrix.data(), 64, 130, nullptr, alone.data());
  set_thread_count(4);
  sparse_decode(codes.view(), matrix.data(), 64, 130, nullptr, together.data());
  set_thread_count(threads);
  EXPECT_EQ(alone, together);
}

TEST(SparseDecode, NoRowsGiveNothing) { sparse_decode({0, nullptr, nullptr, nullptr}, nullptr, 0, 4, nullptr, nullptr); }

TEST(SparseDecode, AnAtomOutsideTheDictionaryIsAnError) {
  const std::vector<int64_t> offsets{0, 0, 1};
  const std::vector<float> values{1}, matrix{1, 2, 3};
  std::vector<float> rows(2);
  for (const int32_t atom : {-1, 3}) {
    try {
      sparse_decode({2, offsets.data(), &atom, values.data()}, matrix.data(), 3, 1, nullptr, rows.data());
      ADD_FAILURE() << "atom " << atom << " was accepted";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("row 1"), std::string::npos) << error.what();
    }
  }
}

TEST(SparseDecode, OffsetsThatFallAreAnError) {
  const std::vector<int64_t> offsets{0, 2, 1}, late{1, 2, 2};
  const std::vector<int32_t> atoms{0, 0};
  const std::vector<float> values{1, 1}, matrix{1};
  std::vector<float> rows(2);
  for (const auto& bad : {offsets, late})
    EXPECT_THROW(sparse_decode({2, bad.data(), atoms.data(), values.data()}, matrix.data(), 1, 1, nullptr, rows.data()), Error);
}

}  // namespace
}  // namespace sememe::kernels
