#include "sememe/kernels/top_k.h"

#if defined(__GNUC__) && !defined(__clang__)
// A score fused into one rounding on some processors and not on others would select other latents there.
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <numeric>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/top_k.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sememe/kernels/row_selection-inl.h"

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_TOP_K_SHARED
#define SEMEME_KERNELS_TOP_K_SHARED
namespace sememe::kernels {

struct RowsToSelect {
  const float* pre_activations;
  int64_t width;
  const TopKOptions& options;
  const TopKOutput& output;
};

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_TOP_K_SHARED

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {

namespace {

/// Step 3 and the output. @return the number of latents kept
HWY_INLINE int64_t keep_largest(const float* values_row, int64_t collected, int64_t k, int32_t bound, int32_t largest,
                                const RowScratch& scratch, int32_t* latents, float* values) {
  const int32_t* bits = scratch.bits.data();
  int64_t ties = collected;
  if (collected > k) {
    bound = find_bound(bits, collected, k, bound, largest);
    ties = k - split_at(bits, collected, bound + 1).reaching;
  }
  int64_t kept = 0;
  for (int64_t i = 0; i < collected && kept < k; ++i) {
    const bool tie = bits[i] == bound;
    latents[kept] = scratch.latents[i];
    values[kept] = values_row[scratch.latents[i]];
    kept += bits[i] > bound || (tie && ties > 0);
    ties -= tie;
  }
  return kept;
}

/// Writes the scores of a row. @return whether every input and score is in range; sets `any_influence`
HWY_INLINE bool score_row(const float* row, const float* influence, int64_t width, const TopKOptions& options,
                          float* scores, bool& any_influence) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  const bool product = options.score == SelectionScore::kProduct;
  const auto zero = hn::Zero(floats), one = hn::Set(floats, 1.0f), beta = hn::Set(floats, options.beta);
  const auto largest = hn::Set(floats, std::numeric_limits<float>::max());
  auto in_range = hn::Eq(zero, zero);
  auto most_influence = zero;
  for (int64_t at = 0; at < width; at += lanes) {
    const bool whole = width - at >= lanes;
    const auto value = whole ? hn::LoadU(floats, row + at) : load_partial(row + at, width - at);
    const auto g = whole ? hn::LoadU(floats, influence + at) : load_partial(influence + at, width - at);
    const auto z = hn::Max(value, zero);
    const auto score = product ? hn::Mul(z, g) : hn::Mul(z, hn::Add(one, hn::Mul(beta, g)));
    // Comparisons with NaN are false.
    in_range = hn::And(in_range, hn::And(hn::Le(value, largest), hn::And(hn::Ge(g, zero), hn::Le(g, largest))));
    in_range = hn::And(in_range, hn::Le(score, largest));
    most_influence = hn::Max(most_influence, g);
    hn::StoreU(score, floats, scores + at);
  }
  any_influence = hn::GetLane(hn::MaxOfLanes(floats, most_influence)) > 0;
  return hn::AllTrue(floats, in_range);
}

/// @return whether the row could be ranked
HWY_INLINE bool select_row(const RowsToSelect& rows, int64_t row, RowScratch& scratch, std::vector<float>& score_scratch) {
  const int64_t k = rows.options.k;
  const float* const values_row = rows.pre_activations + row * rows.width;
  const float* scores = values_row;
  if (rows.options.score != SelectionScore::kValue) {
    const float* influence = rows.options.influence + row * rows.width;
    bool any_influence = false;
    if (!score_row(values_row, influence, rows.width, rows.options, score_scratch.data(), any_influence)) return false;
    if (any_influence) scores = score_scratch.data();
  }
  const GroupMaxima found = find_group_maxima(scores, rows.width, k, scratch.maxima.data());
  if (!found.rankable) return false;
  int32_t* const latents = rows.output.latents + row * k;
  float* const values = rows.output.values + row * k;
  int64_t kept = 0;
  if (found.largest > 0) {
    const int32_t bound = find_bound(scratch.maxima.data(), found.groups, k, 1, found.largest);
    const int64_t collected = collect(scores, rows.width, bound, scratch);
    kept = keep_largest(values_row, collected, k, bound, found.largest, scratch, latents, values);
  }
  std::fill(latents + kept, latents + k, -1);
  std::fill(values + kept, values + k, 0.0f);
  rows.output.counts[row] = static_cast<int32_t>(kept);
  return true;
}

}  // namespace

/// @return the first row that could not be ranked, or `end`
int64_t select_rows(const RowsToSelect& rows, int64_t begin, int64_t end) {
  RowScratch scratch(rows.width);
  std::vector<float> scores(rows.options.score == SelectionScore::kValue ? 0 : rows.width + RowScratch::kSpare);
  for (int64_t row = begin; row < end; ++row)
    if (!select_row(rows, row, scratch, scores)) return row;
  return end;
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {
namespace {

HWY_EXPORT(select_rows);

void check_options(int64_t rows, int64_t width, const TopKOptions& options) {
  if (rows < 0 || width < 0 || width > std::numeric_limits<int32_t>::max())
    fail("top-k of [{}, {}]: sizes must not be negative nor a row longer than 2^31 - 1", rows, width);
  if (options.k < 1 || options.k > std::numeric_limits<int32_t>::max())
    fail("top-k with k = {}: k must be from 1 to the number of latents ({})", options.k, width);
  if (options.score == SelectionScore::kValue) return;
  if (options.influence == nullptr && rows * width > 0) fail("top-k by gradient score: the influence of the latents is missing");
  if (!(options.beta >= 0) || std::isinf(options.beta)) fail("top-k with beta = {}: beta must be finite and >= 0", options.beta);
}

float selection_score(float value, float influence, const TopKOptions& options) {
  const float z = std::max(value, 0.0f);
  if (options.score == SelectionScore::kProduct) return z * influence;
  return z * (1.0f + options.beta * influence);
}

std::optional<UnrankableEntry> find_unrankable(const float* pre_activations, int64_t row, int64_t width,
                                               const TopKOptions& options) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  using Source = UnrankableEntry::Source;
  for (int64_t latent = 0; latent < width; ++latent) {
    const float value = pre_activations[row * width + latent];
    if (!(value <= kLargest)) return UnrankableEntry{Source::kPreActivation, row, latent, value};
    if (options.score == SelectionScore::kValue) continue;
    const float influence = options.influence[row * width + latent];
    if (!(influence >= 0 && influence <= kLargest)) return UnrankableEntry{Source::kInfluence, row, latent, influence};
    const float score = selection_score(value, influence, options);
    if (!(score <= kLargest)) return UnrankableEntry{Source::kScore, row, latent, score};
  }
  return std::nullopt;
}

std::vector<float> scores_of(const float* row, const float* influence, int64_t width, const TopKOptions& options) {
  std::vector<float> scores(row, row + width);
  if (options.score == SelectionScore::kValue) return scores;
  if (std::all_of(influence, influence + width, [](float g) { return g == 0; })) return scores;
  for (int64_t latent = 0; latent < width; ++latent) scores[latent] = selection_score(row[latent], influence[latent], options);
  return scores;
}

}  // namespace

std::string describe(const UnrankableEntry& entry) {
  using Source = UnrankableEntry::Source;
  const char* const source = entry.source == Source::kPreActivation ? "pre-activation"
                             : entry.source == Source::kInfluence   ? "influence"
                                                                    : "selection score";
  return fmt::format("{} at row {}, latent {} is {}", source, entry.row, entry.latent, entry.value);
}

std::optional<UnrankableEntry> top_k(const float* pre_activations, int64_t rows, int64_t width, const TopKOptions& options,
                                     const TopKOutput& output) {
  check_options(rows, width, options);
  const RowsToSelect work{pre_activations, width, options, output};
  std::mutex mutex;
  int64_t first_unrankable = rows;
  constexpr int64_t kEntriesWorthAThread = 1 << 16;
  parallel_for(rows, kEntriesWorthAThread / (width + 1) + 1, [&](int64_t begin, int64_t end) {
    const int64_t row = HWY_DYNAMIC_DISPATCH(select_rows)(work, begin, end);
    if (row == end) return;
    const std::lock_guard lock(mutex);
    first_unrankable = std::min(first_unrankable, row);
  });
  if (first_unrankable == rows) return std::nullopt;
  return find_unrankable(pre_activations, first_unrankable, width, options);
}

std::optional<UnrankableEntry> top_k_reference(const float* pre_activations, int64_t rows, int64_t width,
                                               const TopKOptions& options, const TopKOutput& output) {
  check_options(rows, width, options);
  for (int64_t row = 0; row < rows; ++row) {
    if (const auto unrankable = find_unrankable(pre_activations, row, width, options)) return unrankable;
    const float* const values = pre_activations + row * width;
    const auto scores = scores_of(values, options.influence == nullptr ? nullptr : options.influence + row * width, width, options);

    std::vector<int32_t> latents(width);
    std::iota(latents.begin(), latents.end(), 0);
    std::erase_if(latents, [&](int32_t latent) { return !(scores[latent] > 0); });
    std::sort(latents.begin(), latents.end(), [&](int32_t a, int32_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    });
    if (static_cast<int64_t>(latents.size()) > options.k) latents.resize(options.k);
    std::sort(latents.begin(), latents.end());

    output.counts[row] = static_cast<int32_t>(latents.size());
    for (int64_t place = 0; place < options.k; ++place) {
      const bool used = place < static_cast<int64_t>(latents.size());
      output.latents[row * options.k + place] = used ? latents[place] : -1;
      output.values[row * options.k + place] = used ? values[latents[place]] : 0.0f;
    }
  }
  return std::nullopt;
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
