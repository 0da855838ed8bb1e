// The CUDA kernels' source, played by threads of the CPU and held against the scalar references. On a device the same kernels are held
// against the CPU's by features_test --gtest_filter='*cuda*'.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sememe/base/error.h"
#include "sememe/kernels/adam.h"
#include "sememe/kernels/cuda/top_k.h"
#include "sememe/kernels/cuda/weighted_rows.h"
#include "sememe/kernels/sparse_decode.h"
#include "sememe/kernels/sparse_gradients.h"
#include "sememe/kernels/top_k.h"
#include "tests/kernels/cuda_on_cpu.h"
#include "tests/kernels/random_codes.h"

#include "sememe/kernels/cuda/adam-inl.h"
#include "sememe/kernels/cuda/top_k-inl.h"
#include "sememe/kernels/cuda/weighted_rows-inl.h"

namespace sememe::kernels {
namespace {

struct Selected {
  std::vector<int32_t> latents, counts;
  std::vector<float> values;

  Selected(int64_t rows, int64_t k) : latents(rows * k, -7), counts(rows, -7), values(rows * k, -7.0f) {}
  TopKOutput output() { return {latents.data(), values.data(), counts.data()}; }
};

/// @param in_shared whether ranks are kept in a block's memory
/// @return the first row that could not be ranked, or `rows`
int32_t play_top_k(const std::vector<float>& pre_activations, int64_t rows, const TopKOptions& options, Selected& selected,
                   bool in_shared = true) {
  auto first_unrankable = static_cast<int32_t>(rows);
  const cuda::RowsToSelect work{pre_activations.data(),
                                options.score == SelectionScore::kValue ? nullptr : options.influence,
                                static_cast<int32_t>(static_cast<int64_t>(pre_activations.size()) / rows),
                                static_cast<int32_t>(options.k),
                                options.score == SelectionScore::kProduct,
                                options.beta,
                                selected.output(),
                                &first_unrankable};
  std::vector<uint32_t> ranks(work.width);
  uint32_t* const shared = in_shared ? ranks.data() : nullptr;
  cuda::play(static_cast<unsigned>(rows), 1, cuda::kSelectThreads, [&] { cuda::select_row(work, shared); });
  return first_unrankable;
}

/// Normal numbers of few digits, so that ties are common, with -infinity here and there.
std::vector<float> tied_numbers(int64_t count, double steps, std::string_view name) {
  std::vector<float> values = random_matrix(1, count, name);
  for (float& value : values) value = static_cast<float>(std::round(value * steps) / steps);
  for (int64_t i = 3; i < count; i += 50) values[i] = -std::numeric_limits<float>::infinity();
  return values;
}

std::vector<float> magnitudes(std::vector<float> values) {
  for (float& value : values) value = std::isinf(value) ? 0.0f : std::abs(value);
  return values;
}

void expect_reference(const std::vector<float>& pre_activations, int64_t rows, const TopKOptions& options) {
  const int64_t width = static_cast<int64_t>(pre_activations.size()) / rows;
  Selected wanted(rows, options.k);
  ASSERT_FALSE(top_k_reference(pre_activations.data(), rows, width, options, wanted.output()).has_value());
  for (const bool in_shared : {true, false}) {
    Selected found(rows, options.k);
    ASSERT_EQ(play_top_k(pre_activations, rows, options, found, in_shared), rows);
    EXPECT_EQ(found.latents, wanted.latents) << "width " << width << ", k " << options.k;
    EXPECT_EQ(found.values, wanted.values) << "width " << width << ", k " << options.k;
    EXPECT_EQ(found.counts, wanted.counts) << "width " << width << ", k " << options.k;
  }
}

TEST(CudaTopK, PlayedOnTheCpuItIsTheReferenceAtEverySize) {
  for (const int64_t width : {1, 31, 33, 512, 513, 1300})
    for (const int64_t k : {1, 5, 300}) expect_reference(tied_numbers(width, k == 5 ? 1e6 : 4, "u"), 1, {.k = k});
}

TEST(CudaTopK, PlayedOnTheCpuItTellsManyApartThatBeginAlike) {
  std::vector<float> values(1500);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0f + static_cast<float>(i * 7919 % 1500 / 3) * 1e-6f;
  for (const int64_t k : {1, 40, 511, 513, 1499}) expect_reference(values, 1, {.k = k});
}

TEST(CudaTopK, PlayedOnTheCpuItRanksByInfluenceAsTheReferenceDoes) {
  constexpr int64_t kRows = 2, kWidth = 270;
  const std::vector<float> values = tied_numbers(kRows * kWidth, 4, "u");
  std::vector<float> influence = magnitudes(tied_numbers(kRows * kWidth, 8, "g"));
  std::fill(influence.begin() + kWidth, influence.end(), 0.0f);  // a row without any is ranked by value
  for (const SelectionScore score : {SelectionScore::kAdditive, SelectionScore::kProduct})
    expect_reference(values, kRows, {.k = 9, .score = score, .influence = influence.data(), .beta = 0.7f});
}

TEST(CudaTopK, PlayedOnTheCpuItNamesTheFirstRowThatCannotBeRanked) {
  constexpr int64_t kRows = 3, kWidth = 40;
  const std::vector<float> influence = magnitudes(tied_numbers(kRows * kWidth, 8, "g"));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1.0f, 1e38f}) {
    std::vector<float> values = tied_numbers(kRows * kWidth, 4, "u"), g = influence;
    TopKOptions options{.k = 3, .score = SelectionScore::kAdditive, .influence = g.data(), .beta = 1e5f};
    if (bad == -1.0f) {
      g[2 * kWidth + 7] = bad;
    } else {
      values[2 * kWidth + 7] = bad;  // 1e38 times its influence is beyond the range
      g[2 * kWidth + 7] = 1.0f;
    }
    Selected selected(kRows, 3);
    EXPECT_EQ(play_top_k(values, kRows, options, selected), 2) << bad;
  }
}

template <int kColumns>
void expect_sums(std::initializer_list<int64_t> widths) {
  constexpr int64_t kOfBlock = cuda::kRowThreads * kColumns;
  for (const int64_t width : widths) {
    const RandomCodes codes(7, 9, width);
    const auto atoms = random_matrix(9, width, "atoms"), bias = random_matrix(1, width, "bias");
    std::vector<float> found(7 * width, -7), wanted = found;
    for (const float* const added : {bias.data(), static_cast<const float*>(nullptr)}) {
      cuda::play(7, static_cast<unsigned>((width + kOfBlock - 1) / kOfBlock), cuda::kRowThreads, cuda::sum_rows<kColumns>, codes.view(),
                 atoms.data(), width, added, found.data());
      sparse_decode_reference(codes.view(), atoms.data(), 9, width, added, wanted.data());
      expect_close(found, wanted);
    }
  }
}

TEST(CudaWeightedRows, PlayedOnTheCpuTheyDecodeAsTheReferenceDoes) {
  expect_sums<1>({1, 127, 129, 300});
  expect_sums<4>({4, 128, 132, 508, 516});
}

template <int kColumns>
void expect_products(std::initializer_list<int64_t> widths) {
  for (const int64_t width : widths) {
    const RandomCodes codes(7, 9, width);
    const auto decoder = random_matrix(9, width, "atoms"), output_gradients = random_matrix(7, width, "e");
    std::vector<float> found(codes.values.size(), -7), wanted = found;
    cuda::play(7, 1, cuda::kRowThreads, cuda::dot_entries<kColumns>, codes.view(), output_gradients.data(), decoder.data(), width, found.data());
    sparse_code_gradients_reference(codes.view(), output_gradients.data(), decoder.data(), 9, width, wanted.data());
    expect_close(found, wanted);
  }
}

TEST(CudaWeightedRows, PlayedOnTheCpuTheyGiveTheReferencesCodeGradients) {
  expect_products<1>({1, 31, 33, 300});
  expect_products<4>({4, 124, 132, 300});
}

/// Rows with what Adam keeps of them.
struct AdamRows {
  std::vector<float> values, gradients, first, second;

  AdamRows(int64_t rows, int64_t width)
      : values(random_matrix(rows, width, "rows")), gradients(random_matrix(rows, width, "g")), first(random_matrix(rows, width, "m")),
        second(magnitudes(random_matrix(rows, width, "v"))) {}
};

template <int kColumns>
void expect_adam(std::initializer_list<int64_t> sizes) {
  for (const int64_t n : sizes) {
    AdamRows found(1, n), wanted(1, n);
    const AdamStep step = AdamStep::at(3, 0.01);
    constexpr int64_t kOfBlock = cuda::kAdamThreads * kColumns;
    cuda::play(static_cast<unsigned>((n + kOfBlock - 1) / kOfBlock), 1, cuda::kAdamThreads, cuda::adam_all<kColumns>, step,
               found.values.data(), found.gradients.data(), found.first.data(), found.second.data(), n);
    adam_reference(step, wanted.values.data(), wanted.gradients.data(), wanted.first.data(), wanted.second.data(), n);
    expect_close(found.values, wanted.values);
    expect_close(found.first, wanted.first);
    expect_close(found.second, wanted.second);
  }
}

template <int kColumns>
void expect_unit_rows(std::initializer_list<int64_t> widths) {
  for (const int64_t width : widths) {
    constexpr int64_t kRows = 3;
    AdamRows found(kRows, width), wanted(kRows, width);
    for (AdamRows* const each : {&found, &wanted})  // one that ends without a norm
      for (std::vector<float>* const values : {&each->values, &each->gradients, &each->first})
        std::fill(values->begin() + width, values->begin() + 2 * width, 0.0f);
    std::vector<float> norms(kRows, -7), wanted_norms;
    const AdamStep step = AdamStep::at(3, 0.01);
    cuda::play(kRows, 1, cuda::kAdamThreads, cuda::adam_each_row<kColumns>, step, found.values.data(), found.gradients.data(),
               found.first.data(), found.second.data(), width, norms.data());
    for (int64_t at = 0; at < kRows * width; at += width)
      wanted_norms.push_back(adam_unit_row_reference(step, wanted.values.data() + at, wanted.gradients.data() + at, wanted.first.data() + at,
                                                     wanted.second.data() + at, width));
    expect_close(found.values, wanted.values);
    expect_close(found.second, wanted.second);
    expect_close(norms, wanted_norms);
    EXPECT_EQ(found.values[width], 0.0f);
  }
}

TEST(CudaAdam, PlayedOnTheCpuItStepsAsTheReferenceDoes) {
  expect_adam<1>({1, 255, 257, 600});
  expect_adam<4>({4, 1024, 1028});
}

TEST(CudaAdam, PlayedOnTheCpuItKeepsRowsAtUnitNormAsTheReferenceDoes) {
  expect_unit_rows<1>({1, 255, 257, 600});
  expect_unit_rows<4>({4, 1024, 1028});
}

TEST(CudaKernels, AskingForADeviceIsHarmlessWhereThereIsNone) {
  const bool available = cuda::available();
  EXPECT_EQ(cuda::available(), available);
}

TEST(CudaKernels, WithoutADeviceTheyDoNotStart) {
  if (cuda::available()) GTEST_SKIP() << "there is a CUDA device";
  Selected selected(1, 1);
  const float value = 1.0f;
  int32_t first_unrankable = 1;
  EXPECT_THROW(cuda::top_k(&value, 1, 1, {.k = 1}, selected.output(), &first_unrankable, nullptr), Error);
  EXPECT_THROW(cuda::sum_weighted_rows(RandomCodes(3, 2, 1).view(), &value, 1, nullptr, selected.values.data(), nullptr), Error);
  EXPECT_THROW(cuda::dot_rows(RandomCodes(3, 2, 1).view(), &value, &value, 1, selected.values.data(), nullptr), Error);
}

TEST(CudaKernels, AKernelThatDidNotStartIsAnError) {
  EXPECT_NO_THROW(cuda::check_launch("top_k", nullptr));
  EXPECT_THROW(cuda::check_launch("top_k", "no kernel image"), Error);
}

}  // namespace
}  // namespace sememe::kernels
