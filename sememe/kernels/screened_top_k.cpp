#include "sememe/kernels/screened_top_k.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/weighted_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sememe/kernels/screened_top_k.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "sememe/kernels/row_selection-inl.h"

// Compiled once, for all targets.
#ifndef SEMEME_KERNELS_SCREENED_TOP_K_SHARED
#define SEMEME_KERNELS_SCREENED_TOP_K_SHARED
namespace sememe::kernels {

/// What is known of the scores of one row: each lies in [lower, upper].
struct ScoreBounds {
  explicit ScoreBounds(int64_t latents) : lower(latents + RowScratch::kSpare), upper(latents + RowScratch::kSpare) {}
  std::vector<float> lower, upper;
};

}  // namespace sememe::kernels
#endif  // SEMEME_KERNELS_SCREENED_TOP_K_SHARED

HWY_BEFORE_NAMESPACE();
namespace sememe::kernels {
namespace HWY_NAMESPACE {

using Halves = hn::Rebind<uint16_t, Floats>;

namespace {

/// The products of one row, read as float32 whatever their type is, with their error.
class RowOfProducts {
 public:
  HWY_INLINE RowOfProducts(const ApproximateProducts& from, int64_t row, int64_t latents)
      : products_(from), offset_(row * latents), input_error_(hn::Set(Floats(), from.input_errors[row])),
        // Half a unit in the last place of bfloat16, or a few of float32 for the sums formed here.
        rounding_(hn::Set(Floats(), from.bfloat16 ? 0x1.01p-8f : 0x1p-21f)), smallest_(hn::Set(Floats(), 0x1p-120f)) {}

  HWY_INLINE hn::Vec<Floats> product(int64_t at) const {
    const Floats floats;
    if (!products_.bfloat16) return hn::LoadU(floats, static_cast<const float*>(products_.products) + offset_ + at);
    const auto half = hn::LoadU(Halves(), static_cast<const uint16_t*>(products_.products) + offset_ + at);
    return hn::BitCast(floats, hn::ShiftLeft<16>(hn::PromoteTo(Words(), half)));
  }
  HWY_INLINE hn::Vec<Floats> error(int64_t at, hn::Vec<Floats> value) const {
    const auto norm = hn::LoadU(Floats(), products_.matrix_norms + at);
    return hn::MulAdd(input_error_, norm, hn::MulAdd(rounding_, hn::Abs(value), smallest_));
  }
  /// One entry, for what is left of a row after its whole vectors.
  float product_of(int64_t at) const {
    if (!products_.bfloat16) return static_cast<const float*>(products_.products)[offset_ + at];
    return std::bit_cast<float>(uint32_t{static_cast<const uint16_t*>(products_.products)[offset_ + at]} << 16);
  }
  HWY_INLINE float error_of(int64_t at, float value) const {
    return hn::GetLane(input_error_) * products_.matrix_norms[at] + hn::GetLane(rounding_) * std::abs(value) + 0x1p-120f;
  }

 private:
  const ApproximateProducts& products_;
  int64_t offset_;
  hn::Vec<Floats> input_error_, rounding_, smallest_;
};

constexpr float kLess = 1.0f - 0x1p-20f, kMore = 1.0f + 0x1p-20f;  // rounding of the scores themselves

HWY_INLINE void bound_values(const ScreenedInput& input, int64_t row, ScoreBounds& bounds) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  const RowOfProducts products(input.activations, row, input.latents);
  const auto rounding = hn::Set(floats, 0x1p-21f);
  int64_t at = 0;
  for (; at + lanes <= input.latents; at += lanes) {
    const auto product = products.product(at);
    const auto value = input.bias ? hn::Add(product, hn::LoadU(floats, input.bias + at)) : product;
    const auto error = hn::MulAdd(rounding, hn::Abs(value), products.error(at, product));
    hn::StoreU(hn::Sub(value, error), floats, bounds.lower.data() + at);
    hn::StoreU(hn::Add(value, error), floats, bounds.upper.data() + at);
  }
  for (; at < input.latents; ++at) {
    const float product = products.product_of(at), value = product + (input.bias ? input.bias[at] : 0.0f);
    const float error = products.error_of(at, product) + 0x1p-21f * std::abs(value);
    bounds.lower[at] = value - error;
    bounds.upper[at] = value + error;
  }
}

/// Turns bounds of values into bounds of scores.
HWY_INLINE void bound_scores(const ScreenedInput& input, int64_t row, const TopKOptions& options, ScoreBounds& bounds) {
  const Floats floats;
  const int64_t lanes = hn::Lanes(floats);
  const RowOfProducts products(*input.influence, row, input.latents);
  const float beta = options.beta, base = options.score == SelectionScore::kProduct ? 0.0f : 1.0f;
  const float slope = options.score == SelectionScore::kProduct ? 1.0f : beta;
  const auto zero = hn::Zero(floats), bases = hn::Set(floats, base), slopes = hn::Set(floats, slope);
  const auto less = hn::Set(floats, kLess), more = hn::Set(floats, kMore);
  int64_t at = 0;
  for (; at + lanes <= input.latents; at += lanes) {
    const auto product = products.product(at);
    const auto influence = hn::Abs(product), error = products.error(at, product);
    const auto low = hn::MulAdd(slopes, hn::Max(hn::Sub(influence, error), zero), bases);
    const auto high = hn::MulAdd(slopes, hn::Add(influence, error), bases);
    float* const lower = bounds.lower.data() + at;
    float* const upper = bounds.upper.data() + at;
    hn::StoreU(hn::Mul(hn::Mul(hn::Max(hn::LoadU(floats, lower), zero), low), less), floats, lower);
    hn::StoreU(hn::Mul(hn::Mul(hn::Max(hn::LoadU(floats, upper), zero), high), more), floats, upper);
  }
  for (; at < input.latents; ++at) {
    const float product = products.product_of(at), influence = std::abs(product), error = products.error_of(at, product);
    bounds.lower[at] = std::max(bounds.lower[at], 0.0f) * (slope * std::max(influence - error, 0.0f) + base) * kLess;
    bounds.upper[at] = std::max(bounds.upper[at], 0.0f) * (slope * (influence + error) + base) * kMore;
  }
}

}  // namespace

/// Puts into scratch.latents, in order, every latent that may be among the k largest of the row: at least k scores reach the k-th largest
/// lower bound, so an upper bound below it is out. @return how many, or nothing where a bound is not a number
int64_t candidates_of_row(const ScreenedInput& input, int64_t row, const TopKOptions& options, bool by_influence, ScoreBounds& bounds,
                          RowScratch& scratch) {
  bound_values(input, row, bounds);
  if (by_influence) bound_scores(input, row, options, bounds);
  const GroupMaxima found = find_group_maxima(bounds.lower.data(), input.latents, options.k, scratch.maxima.data());
  if (!found.rankable) return -1;
  int32_t bound = 1;  // the bits of the least float above zero: only positive scores count
  if (found.largest > 0) {
    bound = find_bound(scratch.maxima.data(), found.groups, options.k, 1, found.largest);
    const int64_t collected = collect(bounds.lower.data(), input.latents, bound, scratch);
    if (collected > options.k) bound = find_bound(scratch.bits.data(), collected, options.k, bound, found.largest);
    if (collected < options.k) bound = 1;
  }
  return collect(bounds.upper.data(), input.latents, bound, scratch);
}

}  // namespace HWY_NAMESPACE
}  // namespace sememe::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sememe::kernels {
namespace {

HWY_EXPORT(candidates_of_row);

/// Ranks candidates by their exact scores.
class RowRanking {
 public:
  RowRanking(const ScreenedInput& input, const TopKOptions& options, const TopKOutput& output)
      : input_(input), options_(options), output_(output), bounds_(input.latents), scratch_(input.latents) {}

  /// @return whether the row could be ranked
  bool rank(int64_t row) {
    const bool by_influence = options_.score != SelectionScore::kValue && has_influence(row);
    if (!rank_by(row, by_influence)) return false;
    // Inputs that are not zero can still be at right angles to every atom.
    const bool nothing_left = output_.counts[row] == 0 && by_influence && options_.score == SelectionScore::kProduct;
    return !nothing_left || any_product(row) || rank_by(row, false);
  }
  const UnrankableEntry& fault() const { return fault_; }

 private:
  bool rank_by(int64_t row, bool by_influence) {
    int64_t count = HWY_DYNAMIC_DISPATCH(candidates_of_row)(input_, row, options_, by_influence, bounds_, scratch_);
    if (count < 0) {  // a sum in low precision went out of range; the exact ones may not
      count = input_.latents;
      std::iota(scratch_.latents.begin(), scratch_.latents.begin() + count, 0);
    }
    compute(row, count, by_influence);
    for (int64_t i = 0; i < count; ++i)
      if (!std::isfinite(values_[i]) || !std::isfinite(scores_[i])) {
        fault_ = {std::isfinite(values_[i]) ? UnrankableEntry::Source::kScore : UnrankableEntry::Source::kPreActivation, row,
                  scratch_.latents[i], std::isfinite(values_[i]) ? scores_[i] : values_[i]};
        return false;
      }
    keep(row, count);
    return true;
  }

  bool any_product(int64_t row) {
    scores_.resize(input_.latents);
    std::iota(scratch_.latents.begin(), scratch_.latents.begin() + input_.latents, 0);
    dot_rows(scores_.data(), input_.influence->inputs + row * input_.width, input_.width, scratch_.latents.data(), input_.latents,
             input_.influence->matrix);
    return std::any_of(scores_.begin(), scores_.end(), [](float g) { return g != 0.0f; });
  }

  bool has_influence(int64_t row) const {
    const float* const inputs = input_.influence->inputs + row * input_.width;
    return std::any_of(inputs, inputs + input_.width, [](float value) { return value != 0.0f; });
  }

  void compute(int64_t row, int64_t count, bool by_influence) {
    values_.resize(count);
    scores_.resize(count);
    const int32_t* const latents = scratch_.latents.data();
    dot_rows(values_.data(), input_.activations.inputs + row * input_.width, input_.width, latents, count, input_.activations.matrix);
    if (input_.bias)
      for (int64_t i = 0; i < count; ++i) values_[i] += input_.bias[latents[i]];
    if (by_influence)
      dot_rows(scores_.data(), input_.influence->inputs + row * input_.width, input_.width, latents, count, input_.influence->matrix);
    for (int64_t i = 0; i < count; ++i) {
      const float z = values_[i] <= 0 ? 0.0f : values_[i];  // a NaN stays
      if (!by_influence) {
        scores_[i] = z;
      } else {
        const float influence = std::abs(scores_[i]);
        scores_[i] = options_.score == SelectionScore::kProduct ? z * influence : z * (1.0f + options_.beta * influence);
      }
    }
  }

  void keep(int64_t row, int64_t count) {
    order_.clear();
    for (int64_t i = 0; i < count; ++i)
      if (scores_[i] > 0) order_.push_back(static_cast<int32_t>(i));
    const int64_t kept = std::min<int64_t>(options_.k, static_cast<int64_t>(order_.size()));
    // Candidates ascend by latent, so their places break ties as the latents would.
    const auto better = [this](int32_t a, int32_t b) { return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b; };
    if (kept < static_cast<int64_t>(order_.size())) std::nth_element(order_.begin(), order_.begin() + kept, order_.end(), better);
    std::sort(order_.begin(), order_.begin() + kept);
    int32_t* const latents = output_.latents + row * options_.k;
    float* const values = output_.values + row * options_.k;
    for (int64_t i = 0; i < kept; ++i) {
      latents[i] = scratch_.latents[order_[i]];
      values[i] = values_[order_[i]];
    }
    if (output_.scores != nullptr)
      for (int64_t i = 0; i < kept; ++i) output_.scores[row * options_.k + i] = scores_[order_[i]];
    std::fill(latents + kept, latents + options_.k, -1);
    std::fill(values + kept, values + options_.k, 0.0f);
    output_.counts[row] = static_cast<int32_t>(kept);
  }

  const ScreenedInput& input_;
  const TopKOptions& options_;
  const TopKOutput& output_;
  ScoreBounds bounds_;
  RowScratch scratch_;
  std::vector<float> values_, scores_;
  std::vector<int32_t> order_;
  UnrankableEntry fault_{};
};

}  // namespace

std::optional<UnrankableEntry> screened_top_k(const ScreenedInput& input, const TopKOptions& options, const TopKOutput& output) {
  if (input.rows < 0 || input.width < 0 || input.latents < 0 || input.latents > std::numeric_limits<int32_t>::max())
    fail("screened top-k of {} rows and {} latents: sizes must not be negative nor a row longer than 2^31 - 1", input.rows, input.latents);
  if (options.k < 1) fail("top-k with k = {}: k must be at least 1", options.k);
  if (options.score != SelectionScore::kValue && input.influence == nullptr && input.rows > 0)
    fail("top-k by gradient score: the influence of the latents is missing");
  if (!(options.beta >= 0) || std::isinf(options.beta)) fail("top-k with beta = {}: beta must be finite and >= 0", options.beta);
  std::mutex mutex;
  std::optional<UnrankableEntry> first;
  parallel_for(input.rows, 8, [&](int64_t begin, int64_t end) {
    RowRanking ranking(input, options, output);
    for (int64_t row = begin; row < end; ++row) {
      if (ranking.rank(row)) continue;
      const std::lock_guard lock(mutex);
      if (!first || row < first->row) first = ranking.fault();
      return;
    }
  });
  return first;
}

}  // namespace sememe::kernels
#endif  // HWY_ONCE
