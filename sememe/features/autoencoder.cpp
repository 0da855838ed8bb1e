#include "sememe/features/autoencoder.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/features/tensor_codes.h"
#include "sememe/features/tensor_products.h"

namespace sememe {
namespace {

constexpr int64_t kPartBytes = int64_t{64} << 20;  // pre-activations that encode() holds at a time

}  // namespace

Autoencoder::Autoencoder(AutoencoderWeights weights, Json config)
    : weights_(std::move(weights)), config_(std::move(config)), written_{0, width()} {
  if (!config_.contains("written")) return;
  const auto written = json_member<std::vector<int64_t>>(config_, "written", "the dictionary's config.json");
  if (written.size() != 2 || written[0] < 0 || written[1] < 1 || written[0] > width() - written[1])
    fail("the dictionary's config.json: \"written\" is not [begin, count] of columns of {}", width());
  written_ = {written[0], written[1]};
}

SparseCodes Autoencoder::encode_in_parts(const torch::Tensor& x, const Select& select) const {
  check_inputs(x, width());
  const torch::NoGradGuard no_autograd;
  const torch::Tensor rows = x.to(torch::kCPU, torch::kFloat);
  const int64_t part = std::max<int64_t>(1, kPartBytes / (size() * 4));
  SparseCodesBuilder builder;
  SelectedCodes codes;
  for (int64_t begin = 0; begin < rows.size(0); begin += part) {
    const torch::Tensor some = rows.narrow(0, begin, std::min(part, rows.size(0) - begin));
    torch::Tensor pre_activations = torch::addmm(weights_.encoder_bias, some - weights_.decoder_bias, weights_.encoder.t());
    select(pre_activations, begin, codes);
    builder.append(codes);
  }
  return builder.finish();
}

SparseCodes Autoencoder::encode_by_tensors(const torch::Tensor& x, const torch::Tensor& gradients) const {
  check_inputs(x, width());
  const torch::NoGradGuard no_autograd;
  const torch::Tensor centred = x.to(torch::kFloat) - beside(x, weights_.decoder_bias);
  const RowProducts encoder(beside(x, weights_.encoder));
  const torch::Tensor bias = beside(x, weights_.encoder_bias);
  std::vector<SparseCodes> parts;
  const auto encode_part = [&](int64_t begin, int64_t count) {
    const torch::Tensor some = gradients.defined() ? gradients.narrow(0, begin, count).to(torch::kFloat) : gradients;
    parts.push_back(select_by_tensors(encoder.with(centred.narrow(0, begin, count), bias), some, begin));
  };
  for_parts(x.size(0), rows_of_part(size()), encode_part);
  if (parts.empty()) encode_part(0, 0);
  return join_codes(parts);
}

torch::Tensor Autoencoder::decode(const SparseCodes& codes) const {
  torch::Tensor rows;
  if (codes.values.is_cpu()) {
    rows = decode_sparse(codes, weights_.decoder, weights_.decoder_bias);
  } else {
    if (codes.atoms.numel() > 0 && !((codes.atoms >= 0) & (codes.atoms < size())).all().item<bool>())
      fail("sparse codes: an atom is not one of the dictionary's {}", size());
    rows = sum_by_codes(codes, beside(codes.values, weights_.decoder), beside(codes.values, weights_.decoder_bias));
  }
  if (written_.count == width()) return rows;
  torch::Tensor only = torch::zeros_like(rows);
  only.narrow(1, written_.begin, written_.count).copy_(rows.narrow(1, written_.begin, written_.count));
  return only;
}

void Autoencoder::save(const std::filesystem::path& folder) const {
  Json config = config_;
  config["architecture"] = architecture();
  config["latents"] = size();
  config["width"] = width();
  config.update(settings());
  NamedTensors tensors = weights_.named();
  for (const auto& tensor : own_tensors()) tensors.push_back(tensor);
  save_tensors(folder / "dictionary.safetensors", tensors);
  write_json(folder / "config.json", config);
}

}  // namespace sememe
