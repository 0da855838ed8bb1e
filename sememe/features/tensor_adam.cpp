#include "sememe/features/tensor_adam.h"

namespace sememe {

void adam_by_tensors(const kernels::AdamStep& step, torch::Tensor weights, const torch::Tensor& gradients, torch::Tensor first,
                     torch::Tensor second) {
  // The rests are rounded to float32 as the kernel has them: 1 - 0.999 in double is another number.
  first.mul_(step.beta1).add_(gradients, 1.0f - step.beta1);
  second.mul_(step.beta2).addcmul_(gradients, gradients, 1.0f - step.beta2);
  weights.addcdiv_(first * step.first_correction, (second * step.second_correction).sqrt_().add_(step.epsilon), -step.rate);
}

torch::Tensor adam_unit_rows_by_tensors(const kernels::AdamStep& step, torch::Tensor rows, torch::Tensor gradients, torch::Tensor first,
                                        torch::Tensor second) {
  gradients.sub_((rows * gradients).sum(1, true) * rows);
  adam_by_tensors(step, rows, gradients, first, second);
  const torch::Tensor norms = rows.norm(2, {1});
  rows.div_(torch::where(norms >= 1e-8, norms, 1.0).unsqueeze(1));
  return norms;
}

}  // namespace sememe
