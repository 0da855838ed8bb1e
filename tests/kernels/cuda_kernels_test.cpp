// The CUDA kernels' source, played by threads of the CPU and held against the scalar references. On a device the same kernels are held
// against the CPU's by features_test --gtest_filter='*cuda*'.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "sememe/base/error.h"
#include "sememe/kernels/cuda/top_k.h"
#include "sememe/kernels/cuda/weighted_rows.h"
#include "sememe/kernels/sparse_decode.h"
#include "sememe/kernels/sparse_gradients.h"
#include "sememe/kernels/top_k.h"
#include "tests/kernels/cuda_on_cpu.h"
#include "tests/kernels/random_codes.h"

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

/// @return the first row that could not be ranked, or `rows`
int32_t play_top_k(const std::vector<float>& pre_activations, int64_t rows, const TopKOptions& options, Selected& selected) {
  auto first_unrankable = static_cast<int32_t>(rows);
  const cuda::RowsToSelect work{pre_activations.data(),
                                options.score == SelectionScore::kValue ? nullptr : options.influence,
                                static_cast<int32_t>(static_cast<int64_t>(pre_activations.size()) / rows),
                                static_cast<int32_t>(options.k),
                                options.score == SelectionScore::kProduct,
                                options.beta,
                                selected.output(),
                                &first_unrankable};
  cuda::play(static_cast<unsigned>(rows), 1, cuda::kSelectThreads, cuda::select_rows, work);
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
  Selected found(rows, options.k), wanted(rows, options.k);
  ASSERT_EQ(play_top_k(pre_activations, rows, options, found), rows);
  ASSERT_FALSE(top_k_reference(pre_activations.data(), rows, width, options, wanted.output()).has_value());
  EXPECT_EQ(found.latents, wanted.latents) << "width " << width << ", k " << options.k;
  EXPECT_EQ(found.values, wanted.values) << "width " << width << ", k " << options.k;
  EXPECT_EQ(found.counts, wanted.counts) << "width " << width << ", k " << options.k;
}

TEST(CudaTopK, PlayedOnTheCpuItIsTheReferenceAtEverySize) {
  for (const int64_t width : {1, 31, 33, 256, 257, 1000})
    for (const int64_t k : {1, 5, 300}) expect_reference(tied_numbers(width, k == 5 ? 1e6 : 4, "u"), 1, {.k = k});
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

TEST(CudaWeightedRows, PlayedOnTheCpuTheyDecodeAsTheReferenceDoes) {
  for (const int64_t width : {1, 127, 129, 300}) {
    const RandomCodes codes(7, 9, width);
    const auto atoms = random_matrix(9, width, "atoms"), bias = random_matrix(1, width, "bias");
    std::vector<float> found(7 * width, -7), wanted = found;
    for (const float* const added : {bias.data(), static_cast<const float*>(nullptr)}) {
      cuda::play(7, static_cast<unsigned>((width + cuda::kRowThreads - 1) / cuda::kRowThreads), cuda::kRowThreads, cuda::sum_rows,
                 codes.view(), atoms.data(), width, added, found.data());
      sparse_decode_reference(codes.view(), atoms.data(), 9, width, added, wanted.data());
      expect_close(found, wanted);
    }
  }
}

TEST(CudaWeightedRows, PlayedOnTheCpuTheyGiveTheReferencesCodeGradients) {
  for (const int64_t width : {1, 31, 33, 300}) {
    const RandomCodes codes(7, 9, width);
    const auto decoder = random_matrix(9, width, "atoms"), output_gradients = random_matrix(7, width, "e");
    std::vector<float> found(codes.values.size(), -7), wanted = found;
    cuda::play(7, 1, cuda::kRowThreads, cuda::dot_entries, codes.view(), output_gradients.data(), decoder.data(), width, found.data());
    sparse_code_gradients_reference(codes.view(), output_gradients.data(), decoder.data(), 9, width, wanted.data());
    expect_close(found, wanted);
  }
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
