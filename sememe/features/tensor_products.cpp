#include "sememe/features/tensor_products.h"

#include <utility>

#include "sememe/kernels/cuda/device.h"

namespace sememe {
namespace {

/// Lets products of float32 round their factors to TF32 while it lives.
class Tf32Products {
 public:
  Tf32Products() { at::globalContext().setAllowTF32CuBLAS(true); }
  ~Tf32Products() { at::globalContext().setAllowTF32CuBLAS(before_); }
  Tf32Products(const Tf32Products&) = delete;
  Tf32Products& operator=(const Tf32Products&) = delete;

 private:
  bool before_ = at::globalContext().allowTF32CuBLAS();
};

}  // namespace

std::pair<torch::Tensor, torch::Tensor> split_for_tf32(const torch::Tensor& x) {
  constexpr int32_t kDropped = 13;  // of float32's 23 bits behind the point TF32 has 10
  const torch::Tensor high = x.view(torch::kInt).add(1 << (kDropped - 1)).bitwise_and_(-(1 << kDropped)).view(torch::kFloat);
  return {high, x - high};
}

RowProducts::RowProducts(const torch::Tensor& matrix) : matrix_(matrix), in_parts_(matrix.is_cuda() && kernels::cuda::available()) {
  if (!in_parts_) return;
  const auto [high, low] = split_for_tf32(matrix.contiguous());
  matrix_ = torch::cat({high, low, high}, 1);
}

torch::Tensor RowProducts::with(const torch::Tensor& x, const torch::Tensor& bias) const {
  const auto product = [&](const torch::Tensor& rows) {
    return bias.defined() ? torch::addmm(bias, rows, matrix_.t()) : torch::mm(rows, matrix_.t());
  };
  if (!in_parts_) return product(x);
  const auto [high, low] = split_for_tf32(x.contiguous());
  const Tf32Products tf32;
  return product(torch::cat({high, high, low}, 1));
}

}  // namespace sememe
