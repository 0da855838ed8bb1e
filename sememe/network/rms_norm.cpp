#include "sememe/network/rms_norm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

namespace sememe {

namespace {

constexpr int64_t kGrain = 64;     // rows to a part of the work
constexpr int64_t kPartials = 32;  // fixed, so that the weight's gradient does not depend on the number of threads

/// y = x * scale * w, row by row; keeps scale = 1 / rms.
void normalize(const float* x, const float* w, float* y, float* scales, int64_t rows, int64_t width, double epsilon) {
  at::parallel_for(0, rows, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const row = x + i * width;
      float lanes[16] = {};  // independent sums, so that the compiler may use vectors
      int64_t j = 0;
      for (; j + 16 <= width; j += 16)
        for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] += row[j + lane] * row[j + lane];
      double squares = 0;
      for (; j < width; ++j) squares += row[j] * row[j];
      for (const float lane : lanes) squares += lane;
      const auto scale = static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon));
      scales[i] = scale;
      for (int64_t k = 0; k < width; ++k) y[i * width + k] = row[k] * scale * w[k];
    }
  });
}

/// dx = scale * (g w - x scale^2 mean(g w x)), dw += g x scale, for the rows of one part.
void differentiate(const float* x, const float* w, const float* g, const float* scales, float* dx, float* dw, int64_t begin,
                   int64_t end, int64_t width) {
  for (int64_t i = begin; i < end; ++i) {
    const float *const row = x + i * width, *const gradient = g + i * width;
    float lanes[16] = {};
    int64_t j = 0;
    for (; j + 16 <= width; j += 16)
      for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] += gradient[j + lane] * w[j + lane] * row[j + lane];
    float product = 0;
    for (; j < width; ++j) product += gradient[j] * w[j] * row[j];
    for (const float lane : lanes) product += lane;
    const float scale = scales[i], pull = product * scale * scale / static_cast<float>(width);
    for (int64_t k = 0; k < width; ++k) dx[i * width + k] = scale * (gradient[k] * w[k] - row[k] * pull);
    for (int64_t k = 0; k < width; ++k) dw[k] += gradient[k] * row[k] * scale;
  }
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& rows,
                               const torch::Tensor& weight, double epsilon) {
    const torch::Tensor x = rows.contiguous(), w = weight.contiguous();
    const int64_t width = w.size(0), count = x.numel() / width;
    torch::Tensor y = torch::empty_like(x), scales = torch::empty({count}, x.options());
    normalize(x.const_data_ptr<float>(), w.const_data_ptr<float>(), y.mutable_data_ptr<float>(),
              scales.mutable_data_ptr<float>(), count, width, epsilon);
    context->save_for_backward({x, w, scales});
    return y;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const torch::Tensor &x = saved[0], &w = saved[1], &scales = saved[2], g = gradients[0].contiguous();
    const int64_t width = w.size(0), count = scales.size(0), part = (count + kPartials - 1) / kPartials;
    torch::Tensor dx = torch::empty_like(x), partial = torch::zeros({kPartials, width}, x.options());
    float *const dx_data = dx.mutable_data_ptr<float>(), *const partial_data = partial.mutable_data_ptr<float>();
    at::parallel_for(0, kPartials, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        differentiate(x.const_data_ptr<float>(), w.const_data_ptr<float>(), g.const_data_ptr<float>(),
                      scales.const_data_ptr<float>(), dx_data, partial_data + p * width, std::min(p * part, count),
                      std::min((p + 1) * part, count), width);
    });
    return {dx, partial.sum(0), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor rms_norm(const torch::Tensor& rows, const torch::Tensor& weight, double epsilon) {
  const bool plain = rows.device().is_cpu() && rows.scalar_type() == torch::kFloat32 && weight.scalar_type() == torch::kFloat32 &&
                     weight.dim() == 1 && rows.dim() > 0 && rows.size(-1) == weight.size(0);
  if (!plain) return torch::rms_norm(rows, weight.sizes(), weight, epsilon);
  return RmsNorm::apply(rows, weight, epsilon);
}

}  // namespace sememe
