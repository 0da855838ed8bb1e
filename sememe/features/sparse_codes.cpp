#include "sememe/features/sparse_codes.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <span>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/sparse_decode.h"
#include "sememe/kernels/sparse_gradients.h"

namespace sememe {
namespace {

constexpr int64_t kRowsWorthAThread = 16;

struct GatedRow {
  const float *gates, *values, *thresholds;
  int64_t latents;

  bool fires(int64_t latent) const { return gates[latent] > thresholds[latent] && values[latent] > 0.0f; }
  /// @return how many fire; -1 if a number is NaN or infinite
  int64_t count() const {
    constexpr float kLargest = std::numeric_limits<float>::max();
    int32_t firing = 0, bad = 0;
    for (int64_t latent = 0; latent < latents; ++latent) {
      firing += static_cast<int32_t>(gates[latent] > thresholds[latent]) & static_cast<int32_t>(values[latent] > 0.0f);
      bad |= static_cast<int32_t>(!(gates[latent] <= kLargest)) | static_cast<int32_t>(!(values[latent] <= kLargest));
    }
    return bad != 0 ? -1 : firing;
  }
  [[noreturn]] void fail_at(int64_t row) const {
    int64_t latent = 0;
    const auto bad = [](float value) { return !(value <= std::numeric_limits<float>::max()); };
    while (!bad(gates[latent]) && !bad(values[latent])) ++latent;
    fail("{}: the weights or the activations are out of range",
         kernels::describe({kernels::UnrankableEntry::Source::kPreActivation, row, latent,
                            bad(gates[latent]) ? gates[latent] : values[latent]}));
  }
};

}  // namespace

void select_above(const torch::Tensor& gates, const torch::Tensor& values, const torch::Tensor& thresholds, int64_t first_row,
                  SelectedCodes& codes) {
  const int64_t rows = gates.size(0), latents = gates.size(1);
  const auto gated_row = [&](int64_t row) {
    return GatedRow{gates.data_ptr<float>() + row * latents, values.data_ptr<float>() + row * latents,
                    thresholds.data_ptr<float>(), latents};
  };
  std::vector<int64_t> counts(rows);
  parallel_for(rows, kRowsWorthAThread, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) counts[row] = gated_row(row).count();
  });
  codes.offsets.assign(1, 0);
  for (int64_t row = 0; row < rows; ++row) {
    if (counts[row] < 0) gated_row(row).fail_at(first_row + row);
    codes.offsets.push_back(codes.offsets.back() + counts[row]);
  }
  codes.atoms.resize(codes.offsets.back());
  codes.values.resize(codes.offsets.back());
  parallel_for(rows, kRowsWorthAThread, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const GatedRow each = gated_row(row);
      int64_t entry = codes.offsets[row];
      for (int64_t latent = 0; entry < codes.offsets[row + 1]; ++latent) {
        if (!each.fires(latent)) continue;
        codes.atoms[entry] = static_cast<int32_t>(latent);
        codes.values[entry++] = each.values[latent];
      }
    }
  });
}

void SelectedCodes::close_up(int64_t k, const std::vector<int32_t>& counts) {
  // In place, since an entry never moves to the right.
  offsets.assign(1, 0);
  int64_t entries = 0;
  for (int64_t row = 0; row < static_cast<int64_t>(counts.size()); ++row) {
    for (int64_t place = row * k; place < row * k + counts[row]; ++place, ++entries) {
      atoms[entries] = atoms[place];
      values[entries] = values[place];
      if (!scores.empty()) scores[entries] = scores[place];
    }
    offsets.push_back(entries);
  }
  atoms.resize(entries);
  values.resize(entries);
  if (!scores.empty()) scores.resize(entries);
}

namespace {

/// Leaves the entries for which keep(row, entry) is true.
template <class Keep>
void filter(SelectedCodes& codes, const Keep& keep) {
  int64_t kept = 0, begin = 0;
  for (int64_t row = 0; row < codes.rows(); ++row) {
    const int64_t end = codes.offsets[row + 1];
    for (int64_t entry = begin; entry < end; ++entry) {
      if (!keep(row, entry)) continue;
      codes.atoms[kept] = codes.atoms[entry];
      codes.values[kept++] = codes.values[entry];
    }
    codes.offsets[row + 1] = kept;
    begin = end;
  }
  codes.atoms.resize(kept);
  codes.values.resize(kept);
  codes.scores.clear();
}

}  // namespace

void keep_largest_of_row(SelectedCodes& codes, int64_t k, int64_t first_latent, const Ranks& ranks) {
  if (ranks.alone()) return;
  // Scores are > 0, so their bits have their order; a larger key is a larger score, then a lower latent.
  const std::vector<float>& scores = codes.scores.empty() ? codes.values : codes.scores;
  const auto key_of = [&](int64_t entry) {
    return uint64_t{std::bit_cast<uint32_t>(scores[entry])} << 32 | (uint32_t{0xFFFFFFFF} - static_cast<uint32_t>(first_latent + codes.atoms[entry]));
  };
  std::vector<uint64_t> keys(codes.rows() * k, 0);
  parallel_for(codes.rows(), kRowsWorthAThread, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      uint64_t* const to = keys.data() + row * k;
      const int64_t count = codes.offsets[row + 1] - codes.offsets[row];
      for (int64_t i = 0; i < count; ++i) to[i] = key_of(codes.offsets[row] + i);
      std::sort(to, to + count, std::greater<>());
    }
  });
  ranks.largest_keys(keys, k);
  filter(codes, [&](int64_t row, int64_t entry) { return key_of(entry) >= keys[(row + 1) * k - 1]; });
}

void keep_largest_of_batch(SelectedCodes& codes, int64_t count, const Ranks& ranks) {
  if (ranks.alone()) return;
  std::vector<float> sorted = codes.values;
  std::sort(sorted.begin(), sorted.end());
  // The largest bound that at least `count` values of all ranks reach, or the least above zero, by halving the range of bits.
  uint32_t low = 1, high = std::bit_cast<uint32_t>(std::numeric_limits<float>::max());
  while (low < high) {
    const uint32_t middle = low + (high - low + 1) / 2;
    int64_t reaching = sorted.end() - std::lower_bound(sorted.begin(), sorted.end(), std::bit_cast<float>(middle));
    ranks.sum(std::span(&reaching, 1));
    if (reaching >= count)
      low = middle;
    else
      high = middle - 1;
  }
  const auto bound = std::bit_cast<float>(low);
  filter(codes, [&](int64_t, int64_t entry) { return codes.values[entry] >= bound; });
}

void select_codes(const torch::Tensor& pre_activations, const kernels::TopKOptions& options, SelectedCodes& codes) {
  const int64_t rows = pre_activations.size(0), k = options.k;
  std::vector<int32_t> counts(rows);
  codes.atoms.resize(rows * k);
  codes.values.resize(rows * k);
  codes.scores.clear();
  const auto fault = kernels::top_k(pre_activations.data_ptr<float>(), rows, pre_activations.size(1), options,
                                    {codes.atoms.data(), codes.values.data(), counts.data()});
  if (fault) fail("{}: the weights or the activations are out of range", kernels::describe(*fault));
  codes.close_up(k, counts);
}

void select_codes_of_batch(const torch::Tensor& pre_activations, int64_t k, SelectedCodes& codes) {
  const int64_t rows = pre_activations.size(0), latents = pre_activations.size(1);
  if (rows * latents > std::numeric_limits<int32_t>::max())
    fail("{} rows of {} latents are too many to select from together; train with a lower --batch", rows, latents);
  const int64_t most = std::min(k, latents) * rows;
  codes.atoms.resize(most);
  codes.values.resize(most);
  int32_t count = 0;
  auto fault = kernels::top_k(pre_activations.data_ptr<float>(), 1, rows * latents, {.k = std::max<int64_t>(most, 1)},
                              {codes.atoms.data(), codes.values.data(), &count});
  if (fault) {
    fault->row = fault->latent / latents;
    fault->latent %= latents;
    fail("{}: the weights or the activations are out of range", kernels::describe(*fault));
  }
  codes.atoms.resize(count);
  codes.values.resize(count);
  codes.offsets.assign(rows + 1, 0);
  for (int32_t& atom : codes.atoms) {
    ++codes.offsets[atom / latents + 1];
    atom = static_cast<int32_t>(atom % latents);
  }
  for (int64_t row = 0; row < rows; ++row) codes.offsets[row + 1] += codes.offsets[row];
}

void decode_codes(const kernels::CodeRows& codes, const torch::Tensor& decoder, const torch::Tensor& bias,
                  torch::Tensor& reconstruction) {
  kernels::sparse_decode(codes, decoder.data_ptr<float>(), decoder.size(0), decoder.size(1),
                         bias.defined() ? bias.data_ptr<float>() : nullptr, reconstruction.data_ptr<float>());
}

void add_code_gradients(const SelectedCodes& codes, const torch::Tensor& inputs, const torch::Tensor& reconstruction_gradient,
                        const torch::Tensor& decoder, torch::Tensor& encoder_gradient, torch::Tensor& encoder_bias_gradient,
                        torch::Tensor& decoder_gradient) {
  const int64_t size = decoder.size(0), width = decoder.size(1);
  const float* const output_gradients = reconstruction_gradient.data_ptr<float>();
  const kernels::CodeColumns columns = kernels::columns_of(codes.view(), size);
  std::vector<float> code_gradients(codes.values.size());
  kernels::sparse_code_gradients(codes.view(), output_gradients, decoder.data_ptr<float>(), size, width, code_gradients.data());
  kernels::add_atom_gradients(columns, codes.values.data(), output_gradients, width, decoder_gradient.data_ptr<float>());
  kernels::add_atom_gradients(columns, code_gradients.data(), inputs.data_ptr<float>(), width,
                              encoder_gradient.data_ptr<float>());
  kernels::add_bias_gradients(columns, code_gradients.data(), encoder_bias_gradient.data_ptr<float>());
}

void SparseCodesBuilder::append(const SelectedCodes& codes) {
  const int64_t before = static_cast<int64_t>(atoms_.size());
  atoms_.insert(atoms_.end(), codes.atoms.begin(), codes.atoms.end());
  values_.insert(values_.end(), codes.values.begin(), codes.values.end());
  for (int64_t row = 1; row <= codes.rows(); ++row) offsets_.push_back(before + codes.offsets[row]);
}

SparseCodes SparseCodesBuilder::finish() {
  return {torch::tensor(offsets_, torch::kLong), torch::tensor(atoms_, torch::kInt), torch::tensor(values_, torch::kFloat)};
}

torch::Tensor decode_sparse(const SparseCodes& codes, const torch::Tensor& decoder, const torch::Tensor& bias) {
  torch::Tensor reconstruction = torch::empty({codes.rows(), decoder.size(1)});
  decode_codes({codes.rows(), codes.offsets.data_ptr<int64_t>(), codes.atoms.data_ptr<int32_t>(), codes.values.data_ptr<float>()},
               decoder, bias, reconstruction);
  return reconstruction;
}

}  // namespace sememe
