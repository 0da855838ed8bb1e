#include "sememe/kernels/sparse_gradients.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/sparse_decode.h"
#include "tests/kernels/every_target.h"
#include "tests/kernels/random_codes.h"

namespace sememe::kernels {
namespace {

constexpr int64_t kRows = 13, kSize = 9;

TEST(SparseGradients, CodeGradientsAgreeWithTheReferenceAtEverySize) {
  on_every_target([] {
    for (const int64_t width : kWidths) {
      const RandomCodes codes(kRows, kSize, width);
      const auto output_gradients = random_matrix(kRows, width, "e"), decoder = random_matrix(kSize, width, "decoder");
      std::vector<float> found(codes.values.size(), -7), wanted = found;
      sparse_code_gradients(codes.view(), output_gradients.data(), decoder.data(), kSize, width, found.data());
      sparse_code_gradients_reference(codes.view(), output_gradients.data(), decoder.data(), kSize, width, wanted.data());
      expect_close(found, wanted);
    }
  });
}

TEST(SparseGradients, AtomGradientsAddToWhatWasThereAtEverySize) {
  on_every_target([] {
    for (const int64_t width : kWidths) {
      const RandomCodes codes(kRows, kSize, width);
      const CodeColumns columns = columns_of(codes.view(), kSize);
      const auto inputs = random_matrix(kRows, width, "x");
      auto found = random_matrix(kSize, width, "earlier gradients"), wanted = found;
      add_atom_gradients(columns, codes.values.data(), inputs.data(), width, found.data());
      add_atom_gradients_reference(columns, codes.values.data(), inputs.data(), width, wanted.data());
      expect_close(found, wanted);
    }
  });
}

// With loss = 1/2 |reconstruction - x|^2 everything is linear or quadratic, so a central difference is exact but for rounding.
TEST(SparseGradients, AgreeWithFiniteDifferencesOfTheSquaredError) {
  constexpr int64_t kWidth = 7;
  RandomCodes codes(kRows, kSize, 3);
  auto decoder = random_matrix(kSize, kWidth, "decoder");
  const auto inputs = random_matrix(kRows, kWidth, "x");
  std::vector<float> errors(kRows * kWidth);
  const auto loss = [&] {
    sparse_decode_reference(codes.view(), decoder.data(), kSize, kWidth, nullptr, errors.data());
    double sum = 0;
    for (size_t i = 0; i < errors.size(); ++i) {
      errors[i] -= inputs[i];
      sum += 0.5 * errors[i] * errors[i];
    }
    return sum;
  };
  loss();
  std::vector<float> code_gradients(codes.values.size()), decoder_gradients(decoder.size());
  sparse_code_gradients(codes.view(), errors.data(), decoder.data(), kSize, kWidth, code_gradients.data());
  add_atom_gradients(columns_of(codes.view(), kSize), codes.values.data(), errors.data(), kWidth, decoder_gradients.data());
  const auto difference = [&](float& parameter) {
    constexpr float kStep = 0.125f;
    const float before = parameter;
    parameter = before + kStep;
    const double above = loss();
    parameter = before - kStep;
    const double below = loss();
    parameter = before;
    return (above - below) / (2 * kStep);
  };
  for (size_t i = 0; i < codes.values.size(); ++i) EXPECT_NEAR(difference(codes.values[i]), code_gradients[i], 1e-3);
  for (size_t i = 0; i < decoder.size(); ++i) EXPECT_NEAR(difference(decoder[i]), decoder_gradients[i], 1e-3);
}

TEST(SparseGradients, BiasGradientsSumTheCodeGradientsOfEachAtom) {
  const std::vector<int64_t> offsets{0, 2, 3};
  const std::vector<int32_t> atoms{0, 2, 2};
  const std::vector<float> values(3), code_gradients{1, 2, 4};
  std::vector<float> bias_gradients{10, 20, 30};
  add_bias_gradients(columns_of({2, offsets.data(), atoms.data(), values.data()}, 3), code_gradients.data(), bias_gradients.data());
  EXPECT_EQ(bias_gradients, (std::vector<float>{11, 20, 36}));
}

TEST(SparseGradients, ThreadsDoNotChangeABit) {
  const RandomCodes codes(600, 40, 5);
  const CodeColumns columns = columns_of(codes.view(), 40);
  const auto inputs = random_matrix(600, 130, "x");
  std::vector<float> alone(40 * 130), together(40 * 130);
  const int threads = thread_count();
  set_thread_count(1);
  add_atom_gradients(columns, codes.values.data(), inputs.data(), 130, alone.data());
  set_thread_count(4);
  add_atom_gradients(columns, codes.values.data(), inputs.data(), 130, together.data());
  set_thread_count(threads);
  EXPECT_EQ(alone, together);
}

RC_GTEST_PROP(CodeColumnsLaw, HoldEveryEntryOnceByAtomInAscendingRows, (uint64_t seed)) {
  const int64_t rows = *rc::gen::inRange<int64_t>(0, 40), size = *rc::gen::inRange<int64_t>(1, 20);
  const RandomCodes codes(rows, size, seed);
  const CodeColumns columns = columns_of(codes.view(), size);
  RC_ASSERT(columns.size() == size);
  RC_ASSERT(columns.offsets.back() == codes.view().entries());
  for (int64_t atom = 0; atom < size; ++atom) {
    int64_t last_row = -1;
    for (int64_t place = columns.offsets[atom]; place < columns.offsets[atom + 1]; ++place) {
      const int64_t entry = columns.entries[place], row = columns.rows[place];
      RC_ASSERT(codes.atoms[entry] == atom);
      RC_ASSERT((codes.offsets[row] <= entry && entry < codes.offsets[row + 1]));
      RC_ASSERT(last_row < row);
      last_row = row;
    }
  }
}

TEST(CodeColumns, AnAtomOutsideTheDictionaryIsAnError) {
  const std::vector<int64_t> offsets{0, 1};
  const std::vector<int32_t> atoms{5};
  const std::vector<float> values{1};
  EXPECT_THROW(columns_of({1, offsets.data(), atoms.data(), values.data()}, 5), Error);
}

}  // namespace
}  // namespace sememe::kernels
