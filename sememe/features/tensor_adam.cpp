#include "sememe/features/tensor_adam.h"

#include <algorithm>
#include <initializer_list>

#include "sememe/kernels/cuda/adam.h"

namespace sememe {
namespace {

/// Whether the CUDA kernels take all of these.
bool use_cuda_kernels(std::initializer_list<torch::Tensor> tensors) {
  return kernels::cuda::available() && std::all_of(tensors.begin(), tensors.end(), [](const torch::Tensor& tensor) {
           return tensor.is_cuda() && tensor.is_contiguous() && tensor.scalar_type() == torch::kFloat;
         });
}

}  // namespace

void adam_by_tensors(const kernels::AdamStep& step, torch::Tensor weights, const torch::Tensor& gradients, torch::Tensor first,
                     torch::Tensor second) {
  if (use_cuda_kernels({weights, gradients, first, second})) {
    kernels::cuda::adam(step, weights.data_ptr<float>(), gradients.data_ptr<float>(), first.data_ptr<float>(), second.data_ptr<float>(),
                        weights.numel(), nullptr);
    return;
  }
  // The rests are rounded to float32 as the kernel has them: 1 - 0.999 in double is another number.
  first.mul_(step.beta1).add_(gradients, 1.0f - step.beta1);
  second.mul_(step.beta2).addcmul_(gradients, gradients, 1.0f - step.beta2);
  weights.addcdiv_(first * step.first_correction, (second * step.second_correction).sqrt_().add_(step.epsilon), -step.rate);
}

torch::Tensor adam_unit_rows_by_tensors(const kernels::AdamStep& step, torch::Tensor rows, torch::Tensor gradients, torch::Tensor first,
                                        torch::Tensor second) {
  if (use_cuda_kernels({rows, gradients, first, second})) {
    torch::Tensor norms = torch::empty({rows.size(0)}, rows.options());
    kernels::cuda::adam_unit_rows(step, rows.data_ptr<float>(), gradients.data_ptr<float>(), first.data_ptr<float>(),
                                  second.data_ptr<float>(), rows.size(0), rows.size(1), norms.data_ptr<float>(), nullptr);
    return norms;
  }
  gradients.sub_((rows * gradients).sum(1, true) * rows);
  adam_by_tensors(step, rows, gradients, first, second);
  const torch::Tensor norms = rows.norm(2, {1});
  rows.div_(torch::where(norms >= 1e-8, norms, 1.0).unsqueeze(1));
  return norms;
}

}  // namespace sememe
