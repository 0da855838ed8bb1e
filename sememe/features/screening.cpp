#include "sememe/features/screening.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/adam.h"
#include "sememe/kernels/bfloat16.h"

namespace sememe {
namespace {

constexpr int64_t kPartBytes = int64_t{16} << 20;  // products that exist at a time: they should stay in the cache
constexpr int64_t kFewestRows = 64;                // fewer make the product slow

double seconds_of_product(const torch::Tensor& a, const torch::Tensor& b) {
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    torch::mm(a, b.t());
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

/// Whether products of bfloat16 are faster here than those of float32: several times where the processor has instructions for them, and
/// hundreds of times slower where it has not. Measured once, small sizes first.
bool bfloat16_pays() {
  static const bool pays = [] {
    for (const int64_t size : {64, 512}) {
      const torch::Tensor a = torch::ones({size, 512}), b = torch::ones({2 * size, 512});
      if (seconds_of_product(a.to(torch::kBFloat16), b.to(torch::kBFloat16)) > (size == 64 ? 4.0 : 0.8) * seconds_of_product(a, b)) return false;
    }
    return true;
  }();
  return pays;
}

uint16_t* bits_of(const torch::Tensor& halves) { return reinterpret_cast<uint16_t*>(halves.data_ptr<at::BFloat16>()); }

/// Relative to the product of the norms: what summing `width` products in float32 in any order may lose, twice (the screen's sum and the
/// exact one), with room to spare.
float summation_error(int64_t width) { return static_cast<float>(width) * 0x1p-22f; }

}  // namespace

ScreenedMatrix::ScreenedMatrix(torch::Tensor matrix)
    : matrix_(std::move(matrix)), norms_(torch::zeros({matrix_.size(0)})), losses_(torch::zeros({matrix_.size(0)})) {
  if (bfloat16_pays()) half_ = torch::empty(matrix_.sizes(), torch::kBFloat16);
  refresh_all();
}

void ScreenedMatrix::refresh(int64_t latent) {
  const int64_t width = matrix_.size(1);
  const float* const row = matrix_.data_ptr<float>() + latent * width;
  const float norm = kernels::norm_of(row, width);
  norms_.data_ptr<float>()[latent] = norm;
  if (!half_.defined()) return;
  uint16_t* const half = bits_of(half_) + latent * width;
  kernels::round_to_bfloat16(row, width, half);
  losses_.data_ptr<float>()[latent] = norm > 0 ? kernels::rounding_error(row, half, width) / norm : 0.0f;
}

void ScreenedMatrix::refresh_all() {
  parallel_for(matrix_.size(0), 64, [this](int64_t begin, int64_t end) {
    for (int64_t latent = begin; latent < end; ++latent) refresh(latent);
  });
}

kernels::ApproximateProducts ScreenedMatrix::Products::view() const {
  const bool low = products.scalar_type() == torch::kBFloat16;
  return {inputs.data_ptr<float>(), matrix.data_ptr<float>(), products.data_ptr(), low, input_errors.data_ptr<float>(),
          matrix_norms.data_ptr<float>()};
}

ScreenedMatrix::Products ScreenedMatrix::multiply(const torch::Tensor& inputs) const {
  const int64_t rows = inputs.size(0), width = inputs.size(1);
  Products result{inputs.contiguous(), matrix_, {}, torch::empty({rows}), norms_};
  torch::Tensor halves;
  if (half_.defined()) halves = torch::empty({rows, width}, torch::kBFloat16);
  const float matrix_loss = half_.defined() ? losses_.max().item<float>() : 0.0f;
  const float* const from = result.inputs.data_ptr<float>();
  parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float norm = kernels::norm_of(from + row * width, width);
      float error = norm * summation_error(width);
      if (halves.defined()) {
        kernels::round_to_bfloat16(from + row * width, width, bits_of(halves) + row * width);
        const float loss = kernels::rounding_error(from + row * width, bits_of(halves) + row * width, width);
        // x.w - x'.w' = (x - x').w + x'.(w - w'), by Cauchy and Schwarz; one in a thousand for the rounding of these figures.
        error += 1.001f * (loss + (norm + loss) * matrix_loss);
      }
      result.input_errors.data_ptr<float>()[row] = error;
    }
  });
  result.products = halves.defined() ? torch::mm(halves, half_.t()) : torch::mm(result.inputs, matrix_.t());
  return result;
}

void select_screened(const torch::Tensor& inputs, const ScreenedMatrix& encoder, const torch::Tensor& bias, const torch::Tensor& gradients,
                     const ScreenedMatrix* decoder, const kernels::TopKOptions& options, SelectedCodes& codes) {
  const int64_t rows = inputs.size(0), width = inputs.size(1), latents = encoder.matrix().size(0);
  std::vector<int32_t> counts(rows);
  codes.atoms.resize(rows * options.k);
  codes.values.resize(rows * options.k);
  codes.scores.resize(options.score == kernels::SelectionScore::kValue ? 0 : rows * options.k);
  const int64_t part = std::max(kFewestRows, kPartBytes / (latents * 4));
  for (int64_t begin = 0; begin < rows; begin += part) {
    const int64_t count = std::min(part, rows - begin);
    const ScreenedMatrix::Products activations = encoder.multiply(inputs.narrow(0, begin, count));
    ScreenedMatrix::Products influence;
    kernels::ApproximateProducts influence_view{};
    kernels::ScreenedInput input{activations.view(), bias.data_ptr<float>(), nullptr, count, width, latents};
    if (options.score != kernels::SelectionScore::kValue) {
      influence = decoder->multiply(gradients.narrow(0, begin, count));
      influence_view = influence.view();
      input.influence = &influence_view;
    }
    auto fault = kernels::screened_top_k(
        input, options,
        {codes.atoms.data() + begin * options.k, codes.values.data() + begin * options.k, counts.data() + begin,
         codes.scores.empty() ? nullptr : codes.scores.data() + begin * options.k});
    if (fault) {
      fault->row += begin;
      fail("{}: the weights or the activations are out of range", kernels::describe(*fault));
    }
  }
  codes.close_up(options.k, counts);
}

}  // namespace sememe
