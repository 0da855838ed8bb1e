#include "sememe/features/sharded_tensors.h"

#include <cstring>
#include <vector>

#include "sememe/base/error.h"

namespace sememe {
namespace {

std::span<const std::byte> bytes_of(const torch::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

int64_t rows_of_all(const torch::Tensor& own, const Ranks& ranks) {
  int64_t rows = own.size(0);
  ranks.sum(std::span(&rows, 1));
  return rows;
}

}  // namespace

std::span<float> numbers_of(torch::Tensor& tensor) {
  if (!tensor.is_contiguous()) fail("an exchange of a tensor that is not contiguous");
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

torch::Tensor gather_rows(const torch::Tensor& own, const Ranks& ranks) {
  if (ranks.alone()) return own.clone();
  std::vector<int64_t> shape = own.sizes().vec();
  shape[0] = rows_of_all(own, ranks);
  torch::Tensor whole = ranks.first() ? torch::empty(shape, own.options()) : own.clone();
  auto* to = static_cast<std::byte*>(whole.data_ptr());
  ranks.gather(bytes_of(own), [&](std::span<const std::byte> block) {
    if (!block.empty()) std::memcpy(to, block.data(), block.size());
    to += block.size();
  });
  return whole;
}

void save_sharded(const std::filesystem::path& path, const NamedTensors& tensors, const std::function<bool(std::string_view name)>& is_sharded,
                  const Ranks& ranks, const std::map<std::string, std::string>& metadata) {
  if (ranks.alone()) return save_tensors(path, tensors, metadata);
  std::vector<torch::Tensor> own;
  std::vector<TensorView> headers;
  for (const auto& [name, tensor] : tensors) {
    own.push_back(tensor.detach().contiguous());
    std::vector<int64_t> shape = tensor.sizes().vec();
    if (is_sharded(name)) shape[0] = rows_of_all(tensor, ranks);
    headers.push_back({name, dtype_of(tensor.scalar_type()), shape, {}});
  }
  const auto send = [&](size_t i, const std::function<void(std::span<const std::byte>)>& write) {
    if (is_sharded(headers[i].name))
      ranks.gather(bytes_of(own[i]), write);
    else if (ranks.first())
      write(bytes_of(own[i]));
  };
  if (ranks.first())
    write_safetensors(path, headers, send, metadata);
  else
    for (size_t i = 0; i < own.size(); ++i) send(i, {});
}

}  // namespace sememe
