#include "sememe/kernels/cuda/adam.h"

#include "sememe/kernels/cuda/adam-inl.h"
#include "sememe/kernels/cuda/launch.h"

namespace sememe::kernels::cuda {

void adam(const AdamStep& step, float* weights, const float* gradients, float* first, float* second, int64_t n, Stream stream) {
  if (n == 0) return;
  const int columns = in_fours(n, {weights, gradients, first, second}) ? 4 : 1;
  const auto blocks = static_cast<unsigned>((n / columns + kAdamThreads - 1) / kAdamThreads);
  const auto kernel = columns == 4 ? adam_all<4> : adam_all<1>;
  kernel<<<blocks, kAdamThreads, 0, stream>>>(step, weights, gradients, first, second, n);
  check_started("adam");
}

void adam_unit_rows(const AdamStep& step, float* values, const float* gradients, float* first, float* second, int64_t rows, int64_t width,
                    float* norms, Stream stream) {
  if (rows == 0) return;
  const auto kernel = in_fours(width, {values, gradients, first, second}) ? adam_each_row<4> : adam_each_row<1>;
  kernel<<<static_cast<unsigned>(rows), kAdamThreads, 0, stream>>>(step, values, gradients, first, second, width, norms);
  check_started("adam_unit_rows");
}

}  // namespace sememe::kernels::cuda
