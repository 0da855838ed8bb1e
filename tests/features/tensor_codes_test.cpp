#include "sememe/features/tensor_codes.h"

#include <gtest/gtest.h>

#include <limits>

#include "sememe/features/sparse_codes.h"
#include "tests/features/on_device.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Small whole numbers, so that sums are exact and ties are common.
torch::Tensor whole_numbers(at::IntArrayRef shape, int64_t largest) {
  return torch::randint(-largest, largest + 1, shape).to(torch::kFloat);
}

SparseCodes in_tensors(const SelectedCodes& codes) {
  SparseCodesBuilder builder;
  builder.append(codes);
  return builder.finish();
}

void expect_same(const SparseCodes& found, const SparseCodes& wanted, const std::string& what) {
  EXPECT_TRUE(torch::equal(found.offsets.cpu(), wanted.offsets)) << what;
  EXPECT_TRUE(torch::equal(found.atoms.cpu(), wanted.atoms)) << what;
  EXPECT_TRUE(torch::equal(found.values.cpu(), wanted.values)) << what;
}

class TensorCodes : public OnDevice<::testing::Test> {
 protected:
  void SetUp() override {
    OnDevice<::testing::Test>::SetUp();
    torch::manual_seed(3);
  }
  /// Codes of 50 rows and 30 latents, some rows with none.
  SparseCodes some_codes() const {
    SelectedCodes codes;
    select_codes(whole_numbers({50, 30}, 3) * (torch::rand({50, 1}) < 0.8), {.k = 4}, codes);
    return in_tensors(codes);
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, TensorCodes, every_device, name_of_device);

TEST_P(TensorCodes, AreSelectedAsByTheKernelTiesToTheLowerLatent) {
  for (const int64_t latents : {1, 7, 300})
    for (const int64_t k : {1, 5, 40})
      for (const auto score : {kernels::SelectionScore::kValue, kernels::SelectionScore::kAdditive, kernels::SelectionScore::kProduct}) {
        if (k > latents) continue;
        torch::Tensor u = whole_numbers({20, latents}, 4), g = whole_numbers({20, latents}, 3).abs();
        u[2][0] = -kInfinity;
        g[5].zero_();  // a row without influence is ranked by value
        kernels::TopKOptions options{.k = k, .score = score, .beta = 0.5f};
        const bool by_value = score == kernels::SelectionScore::kValue;
        const SparseCodes found = top_k_by_tensors(u.to(device()), by_value ? torch::Tensor() : g.to(device()), options);
        options.influence = g.data_ptr<float>();
        SelectedCodes wanted;
        select_codes(u, options, wanted);
        expect_same(found, in_tensors(wanted), fmt::format("{} latents, k {}, score {}", latents, k, static_cast<int>(score)));
      }
}

TEST_P(TensorCodes, OfNoRowsAreNone) {
  const SparseCodes codes = top_k_by_tensors(torch::zeros({0, 4}, device()), {}, {.k = 2});
  EXPECT_EQ(codes.rows(), 0);
  EXPECT_EQ(codes.values.numel(), 0);
}

TEST_P(TensorCodes, WhatCannotBeRankedIsNamed) {
  for (const float bad : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    torch::Tensor u = torch::randn({6, 9});
    u[4][7] = bad;
    const torch::Tensor there = u.to(device()), g = torch::ones({6, 9}, device());
    const std::initializer_list<std::string_view> wanted{"pre-activation", "row 104", "latent 7"};
    EXPECT_TRUE(contains(error_from([&] { top_k_by_tensors(there, {}, {.k = 2}, 100); }), wanted)) << bad;
    EXPECT_TRUE(
        contains(error_from([&] { top_k_by_tensors(there, g, {.k = 2, .score = kernels::SelectionScore::kProduct}, 100); }), wanted));
    EXPECT_TRUE(contains(error_from([&] { above_by_tensors(there, there, torch::zeros({9}, device()), 100); }), wanted)) << bad;
    EXPECT_TRUE(contains(error_from([&] { LargestOfBatch(200, 9, 20).add(there, 100); }), wanted)) << bad;
  }
}

TEST_P(TensorCodes, OfABatchAreTheLargestOfAllRowsWhateverThePartsAre) {
  for (const int64_t k : {1, 3, 30}) {
    const torch::Tensor u = whole_numbers({23, 30}, 5);
    SelectedCodes wanted;
    select_codes_of_batch(u, k, wanted);
    for (const int64_t part : {1, 4, 23}) {
      LargestOfBatch largest(23, 30, 23 * k);
      for_parts(23, part, [&](int64_t begin, int64_t count) { largest.add(u.narrow(0, begin, count).to(device()), begin); });
      expect_same(largest.codes(), in_tensors(wanted), fmt::format("k {}, parts of {}", k, part));
    }
  }
}

TEST_P(TensorCodes, AboveThresholdsAreThoseOfTheKernel) {
  const torch::Tensor gates = torch::randn({40, 17}), values = torch::randn({40, 17}), thresholds = torch::rand({17}) * 0.5;
  SelectedCodes wanted;
  select_above(gates, values, thresholds, 0, wanted);
  expect_same(above_by_tensors(gates.to(device()), values.to(device()), thresholds.to(device())), in_tensors(wanted), "");
}

TEST_P(TensorCodes, OfPartsAreJoined) {
  const SparseCodes whole = some_codes();
  const auto part = [&](int64_t begin, int64_t count) {
    const torch::Tensor offsets = whole.offsets.narrow(0, begin, count + 1);
    const int64_t first = offsets[0].item<int64_t>(), entries = offsets[count].item<int64_t>() - first;
    return SparseCodes{offsets - first, whole.atoms.narrow(0, first, entries), whole.values.narrow(0, first, entries)}.to(device());
  };
  expect_same(join_codes({part(0, 13), part(13, 0), part(13, 37)}), whole, "");
}

TEST_P(TensorCodes, AreDecodedAsByTheKernel) {
  const SparseCodes codes = some_codes();
  const torch::Tensor decoder = torch::randn({30, 70}), bias = torch::randn({70});
  for (const torch::Tensor& added : {bias, torch::Tensor()}) {
    const torch::Tensor wanted = decode_sparse(codes, decoder, added);
    const torch::Tensor found = sum_by_codes(codes.to(device()), decoder.to(device()), added.defined() ? added.to(device()) : added);
    EXPECT_LT((found.cpu() - wanted).abs().max().item<double>(), 1e-4);
  }
  const SparseCodes none{torch::zeros({4}, torch::kLong), torch::zeros({0}, torch::kInt), torch::zeros({0})};
  EXPECT_TRUE(torch::equal(sum_by_codes(none.to(device()), decoder.to(device()), bias.to(device())).cpu(), bias.expand({3, 70})));
}

TEST_P(TensorCodes, AreDifferentiatedAsByTheKernels) {
  const SparseCodes codes = some_codes();
  const torch::Tensor decoder = torch::randn({30, 70}), inputs = torch::randn({50, 70}), output_gradients = torch::randn({50, 70});
  SelectedCodes selected;
  selected.offsets.assign(codes.offsets.data_ptr<int64_t>(), codes.offsets.data_ptr<int64_t>() + codes.offsets.numel());
  selected.atoms.assign(codes.atoms.data_ptr<int32_t>(), codes.atoms.data_ptr<int32_t>() + codes.atoms.numel());
  selected.values.assign(codes.values.data_ptr<float>(), codes.values.data_ptr<float>() + codes.values.numel());
  torch::Tensor encoder_gradient = torch::zeros({30, 70}), bias_gradient = torch::zeros({30}), decoder_gradient = torch::zeros({30, 70});
  add_code_gradients(selected, inputs, output_gradients, decoder, encoder_gradient, bias_gradient, decoder_gradient);
  const SparseCodes there = codes.to(device());
  const torch::Tensor code_gradients = dot_by_codes(there, output_gradients.to(device()), decoder.to(device()));
  const TensorColumns columns(there, 30);
  const auto off = [](const torch::Tensor& found, const torch::Tensor& wanted) {
    return (found.cpu() - wanted).abs().max().item<double>();
  };
  EXPECT_LT(off(columns.sum(code_gradients, inputs.to(device())), encoder_gradient), 1e-4);
  EXPECT_LT(off(columns.sum(code_gradients, torch::ones({50, 1}, device())).squeeze(1), bias_gradient), 1e-4);
  EXPECT_LT(off(columns.sum(there.values, output_gradients.to(device())), decoder_gradient), 1e-4);
}

}  // namespace
}  // namespace sememe
