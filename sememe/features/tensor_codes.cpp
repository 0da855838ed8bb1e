#include "sememe/features/tensor_codes.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "sememe/base/error.h"
#include "sememe/kernels/cuda/top_k.h"
#include "sememe/kernels/cuda/weighted_rows.h"

namespace sememe {
namespace {

constexpr int64_t kPartBytes = int64_t{256} << 20;
constexpr int64_t kGatheredBytes = int64_t{64} << 20;  // rows gathered for dot_by_codes() at a time
constexpr float kLargest = std::numeric_limits<float>::max();

bool use_cuda_kernels(const torch::Tensor& tensor) { return tensor.is_cuda() && kernels::cuda::available(); }

torch::TensorOptions of_type(const torch::Tensor& like, torch::ScalarType type) { return like.options().dtype(type); }

torch::Tensor offsets_of(const torch::Tensor& counts) {
  torch::Tensor offsets = torch::zeros({counts.size(0) + 1}, of_type(counts, torch::kLong));
  offsets.narrow(0, 1, counts.size(0)).copy_(counts.cumsum(0));
  return offsets;
}

/// What cannot be ranked of a row, as the CPU's kernel would say it.
[[noreturn]] void fail_unrankable(const torch::Tensor& pre_activations, const torch::Tensor& influence, kernels::TopKOptions options,
                                  int64_t row, int64_t first_row) {
  const torch::Tensor values = pre_activations[row].cpu().contiguous();
  const torch::Tensor g = influence.defined() ? influence[row].cpu().contiguous() : torch::Tensor();
  options.influence = g.defined() ? g.data_ptr<float>() : nullptr;
  std::vector<int32_t> latents(options.k), counts(1);
  std::vector<float> kept(options.k);
  auto fault = kernels::top_k_reference(values.data_ptr<float>(), 1, values.size(0), options, {latents.data(), kept.data(), counts.data()});
  if (!fault) fail("row {}: a pre-activation or score cannot be ranked", first_row + row);
  fault->row = first_row + row;
  fail("{}: the weights or the activations are out of range", kernels::describe(*fault));
}

/// k places a row, of which those at or after the row's count are to be dropped.
struct PaddedCodes {
  torch::Tensor latents;  // [rows, k]
  torch::Tensor values;   // [rows, k]
  torch::Tensor filled;   // [rows, k] bool
};

SparseCodes close_up(const PaddedCodes& padded) {
  return {offsets_of(padded.filled.sum(1)), padded.latents.masked_select(padded.filled).to(torch::kInt),
          padded.values.masked_select(padded.filled)};
}

/// z, or z (1 + beta g), or z g in rows where g is not all zero.
torch::Tensor scores_of(const torch::Tensor& pre_activations, const torch::Tensor& influence, const kernels::TopKOptions& options) {
  if (options.score == kernels::SelectionScore::kValue) return pre_activations;
  const torch::Tensor z = pre_activations.relu();
  if (options.score == kernels::SelectionScore::kAdditive) return z * (1.0 + influence * static_cast<double>(options.beta));
  return torch::where((influence > 0).any(1, true), z * influence, z);
}

/// The latents of the k largest scores of each row; ties go to the lower.
torch::Tensor largest_latents(const torch::Tensor& scores, int64_t k) {
  const int64_t latents = scores.size(1);
  if (k >= latents) return torch::arange(latents, of_type(scores, torch::kLong)).expand(scores.sizes());
  // One more than wanted tells where the k-th has an equal among those left out: only there does it matter which topk() took.
  const auto [values, places] = scores.topk(k + 1, 1);
  torch::Tensor largest = places.narrow(1, 0, k);
  const torch::Tensor next = values.select(1, k);
  const torch::Tensor tied = ((values.select(1, k - 1) == next) & (next > 0)).nonzero().squeeze(1);
  if (tied.numel() == 0) return largest;
  const torch::Tensor sorted = std::get<1>(scores.index_select(0, tied).sort(/*stable=*/true, 1, /*descending=*/true));
  largest = largest.clone();
  largest.index_copy_(0, tied, sorted.narrow(1, 0, k));
  return largest;
}

PaddedCodes select_by_operations(const torch::Tensor& pre_activations, const torch::Tensor& influence, const kernels::TopKOptions& options,
                                 int64_t first_row) {
  const torch::Tensor scores = scores_of(pre_activations, influence, options);
  // NaN and infinity are the largest of a row, or turn its score into the largest.
  torch::Tensor good = std::get<0>(scores.max(1)) <= kLargest;
  if (influence.defined()) good = good & (std::get<0>(pre_activations.max(1)) <= kLargest) & (std::get<0>(influence.max(1)) <= kLargest);
  if (!good.all().item<bool>())
    fail_unrankable(pre_activations, influence, options, good.logical_not().nonzero()[0].item<int64_t>(), first_row);
  const torch::Tensor latents = std::get<0>(largest_latents(scores, options.k).sort(1));
  return {latents, pre_activations.gather(1, latents), scores.gather(1, latents) > 0};
}

PaddedCodes select_by_kernel(const torch::Tensor& pre_activations, const torch::Tensor& influence, kernels::TopKOptions options,
                             int64_t first_row) {
  const torch::Tensor values = pre_activations.contiguous(), g = influence.defined() ? influence.contiguous() : influence;
  const int64_t rows = values.size(0);
  options.influence = g.defined() ? g.data_ptr<float>() : nullptr;
  const torch::Tensor latents = torch::empty({rows, options.k}, of_type(values, torch::kInt));
  const torch::Tensor kept = torch::empty({rows, options.k}, values.options()), counts = torch::empty({rows}, of_type(values, torch::kInt));
  const torch::Tensor fault = torch::full({1}, rows, of_type(values, torch::kInt));
  kernels::cuda::top_k(values.data_ptr<float>(), rows, values.size(1), options,
                       {latents.data_ptr<int32_t>(), kept.data_ptr<float>(), counts.data_ptr<int32_t>()}, fault.data_ptr<int32_t>(),
                       nullptr);
  if (const auto row = fault.item<int32_t>(); row < rows) fail_unrankable(pre_activations, influence, options, row, first_row);
  return {latents, kept, latents >= 0};
}

kernels::CodeRows view(const SparseCodes& codes) {
  return {codes.rows(), codes.offsets.data_ptr<int64_t>(), codes.atoms.data_ptr<int32_t>(), codes.values.data_ptr<float>()};
}

}  // namespace

int64_t rows_of_part(int64_t latents) { return std::max<int64_t>(1, kPartBytes / (latents * 4)); }

void for_parts(int64_t rows, int64_t part, const std::function<void(int64_t, int64_t)>& body) {
  for (int64_t begin = 0; begin < rows; begin += part) body(begin, std::min(part, rows - begin));
}

SparseCodes top_k_by_tensors(const torch::Tensor& pre_activations, const torch::Tensor& influence, const kernels::TopKOptions& options,
                             int64_t first_row) {
  if (pre_activations.numel() == 0) return close_up({pre_activations, pre_activations, pre_activations > 0});
  return close_up(use_cuda_kernels(pre_activations) ? select_by_kernel(pre_activations, influence, options, first_row)
                                                    : select_by_operations(pre_activations, influence, options, first_row));
}

void LargestOfBatch::add(const torch::Tensor& pre_activations, int64_t first_row) {
  const torch::Tensor all = pre_activations.flatten();
  if (all.numel() == 0) return;
  auto [values, places] = all.topk(std::min(count_, all.size(0)), 0, true, /*sorted=*/false);
  if (!(values.max() <= kLargest).item<bool>()) {
    const int64_t row = (pre_activations <= kLargest).all(1).logical_not().nonzero()[0].item<int64_t>();
    fail_unrankable(pre_activations, {}, {}, row, first_row);
  }
  // topk() takes any of those that equal the last: the first of them are wanted.
  const torch::Tensor least = values.min();
  const torch::Tensor above = (all > least).nonzero().squeeze(1), equal = (all == least).nonzero().squeeze(1);
  places = std::get<0>(torch::cat({above, equal.narrow(0, 0, values.size(0) - above.size(0))}).sort(0));
  places = places.masked_select(all.index_select(0, places) > 0);
  values = all.index_select(0, places);
  places = places + first_row * latents_;
  places_ = places_.defined() ? torch::cat({places_, places}) : places;
  values_ = values_.defined() ? torch::cat({values_, values}) : values;
  if (values_.size(0) <= count_) return;
  const torch::Tensor best = std::get<0>(std::get<1>(values_.sort(/*stable=*/true, 0, /*descending=*/true)).narrow(0, 0, count_).sort(0));
  places_ = places_.index_select(0, best);
  values_ = values_.index_select(0, best);
}

SparseCodes LargestOfBatch::codes() const {
  const torch::Tensor rows = places_.floor_divide(latents_);
  return {offsets_of(rows.bincount({}, rows_)), (places_ - rows * latents_).to(torch::kInt), values_};
}

SparseCodes above_by_tensors(const torch::Tensor& gates, const torch::Tensor& values, const torch::Tensor& thresholds, int64_t first_row) {
  const torch::Tensor good = (gates <= kLargest) & (values <= kLargest);
  if (!good.all().item<bool>()) {
    const torch::Tensor where = good.logical_not().nonzero()[0].cpu();
    const int64_t row = where[0].item<int64_t>(), latent = where[1].item<int64_t>();
    const float gate = gates[row][latent].item<float>();
    fail("{}: the weights or the activations are out of range",
         kernels::describe({kernels::UnrankableEntry::Source::kPreActivation, first_row + row, latent,
                            gate <= kLargest ? values[row][latent].item<float>() : gate}));
  }
  const torch::Tensor fires = (gates > thresholds) & (values > 0);
  return {offsets_of(fires.sum(1)), fires.nonzero().select(1, 1).to(torch::kInt).contiguous(), values.masked_select(fires)};
}

SparseCodes join_codes(const std::vector<SparseCodes>& parts) {
  if (parts.size() == 1) return parts[0];
  std::vector<torch::Tensor> counts, atoms, values;
  for (const SparseCodes& part : parts) {
    counts.push_back(part.offsets.diff());
    atoms.push_back(part.atoms);
    values.push_back(part.values);
  }
  return {offsets_of(torch::cat(counts)), torch::cat(atoms), torch::cat(values)};
}

torch::Tensor rows_of_entries(const SparseCodes& codes) {
  return torch::repeat_interleave(torch::arange(codes.rows(), codes.offsets.options()), codes.offsets.diff(), 0, codes.atoms.size(0));
}

torch::Tensor sum_by_codes(const SparseCodes& codes, const torch::Tensor& matrix, const torch::Tensor& bias) {
  if (use_cuda_kernels(matrix)) {
    const torch::Tensor whole = matrix.contiguous(), start = bias.defined() ? bias.contiguous() : bias;
    torch::Tensor sums = torch::empty({codes.rows(), matrix.size(1)}, matrix.options());
    kernels::cuda::sum_weighted_rows(view(codes), whole.data_ptr<float>(), whole.size(1),
                                     start.defined() ? start.data_ptr<float>() : nullptr, sums.data_ptr<float>(), nullptr);
    return sums;
  }
  torch::Tensor sums = torch::zeros({codes.rows(), matrix.size(1)}, matrix.options());
  if (codes.atoms.size(0) > 0)
    sums =
        std::get<0>(torch::embedding_bag(matrix, codes.atoms.to(torch::kLong), codes.offsets, /*scale_grad_by_freq=*/false, /*mode=sum*/ 0,
                                         /*sparse=*/false, codes.values, /*include_last_offset=*/true));
  return bias.defined() ? sums.add_(bias) : sums;
}

torch::Tensor dot_by_codes(const SparseCodes& codes, const torch::Tensor& vectors, const torch::Tensor& matrix) {
  torch::Tensor products = torch::empty(codes.values.sizes(), matrix.options());
  if (use_cuda_kernels(matrix)) {
    const torch::Tensor left = vectors.contiguous(), right = matrix.contiguous();
    kernels::cuda::dot_rows(view(codes), left.data_ptr<float>(), right.data_ptr<float>(), right.size(1), products.data_ptr<float>(),
                            nullptr);
    return products;
  }
  const torch::Tensor rows = rows_of_entries(codes);
  for_parts(
      products.size(0), std::max<int64_t>(1, kGatheredBytes / (4 * std::max<int64_t>(1, matrix.size(1)))),
      [&](int64_t begin, int64_t count) {
        products.narrow(0, begin, count)
            .copy_((vectors.index_select(0, rows.narrow(0, begin, count)) * matrix.index_select(0, codes.atoms.narrow(0, begin, count)))
                       .sum(1));
      });
  return products;
}

TensorColumns::TensorColumns(const SparseCodes& codes, int64_t size) {
  torch::Tensor atoms;
  std::tie(atoms, entries) = codes.atoms.sort(/*stable=*/true, 0, /*descending=*/false);
  rows = rows_of_entries(codes).index_select(0, entries).to(torch::kInt);
  offsets = offsets_of(atoms.bincount({}, size));
}

torch::Tensor TensorColumns::sum(const torch::Tensor& weights, const torch::Tensor& row_vectors) const {
  return sum_by_codes({offsets, rows, weights.index_select(0, entries)}, row_vectors, {});
}

}  // namespace sememe
