#include "sememe/kernels/cuda/weighted_rows.h"

#include "sememe/kernels/cuda/launch.h"
#include "sememe/kernels/cuda/weighted_rows-inl.h"

namespace sememe::kernels::cuda {
namespace {

template <int kColumns>
void launch_sums(const CodeRows& codes, const float* matrix, int64_t width, const float* bias, float* sums, Stream stream) {
  constexpr int64_t kOfBlock = kRowThreads * kColumns;
  const dim3 blocks(static_cast<unsigned>(codes.rows), static_cast<unsigned>((width + kOfBlock - 1) / kOfBlock));
  sum_rows<kColumns><<<blocks, kRowThreads, 0, stream>>>(codes, matrix, width, bias, sums);
}

}  // namespace

void sum_weighted_rows(const CodeRows& codes, const float* matrix, int64_t width, const float* bias, float* sums, Stream stream) {
  if (codes.rows == 0 || width == 0) return;
  if (in_fours(width, {matrix, sums}))
    launch_sums<4>(codes, matrix, width, bias, sums, stream);
  else
    launch_sums<1>(codes, matrix, width, bias, sums, stream);
  check_started("sum_weighted_rows");
}

void dot_rows(const CodeRows& codes, const float* vectors, const float* matrix, int64_t width, float* products, Stream stream) {
  if (codes.rows == 0) return;
  const auto kernel = in_fours(width, {vectors, matrix}) ? dot_entries<4> : dot_entries<1>;
  kernel<<<static_cast<unsigned>(codes.rows), kRowThreads, 0, stream>>>(codes, vectors, matrix, width, products);
  check_started("dot_rows");
}

}  // namespace sememe::kernels::cuda
