#include "sememe/features/semi_nmf.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/multiplicative_step.h"
#include "sememe/kernels/row_products.h"
#include "sememe/kernels/weighted_rows.h"

namespace sememe {
namespace {

constexpr double kRidge = 1e-6;
constexpr float kLeast = 1e-6f;     // coefficients begin above 0: the multiplicative step cannot leave it
constexpr float kNothing = 1e-30f;  // a coefficient below this is 0: what is subnormal would slow all products
constexpr double kDeadNorm = 1e-8;  // of a column of coefficients
constexpr int kLloydRounds = 15;
constexpr int64_t kTileRows = 496;     // 31 cache lines: an odd number, or lines would want the same places of the cache
constexpr int64_t kAhead = 16;         // places in the list of units by which fetching runs ahead
constexpr int64_t kRowsTogether = 32;  // of one matrix, at least so many share what is read of the other

void check_options(const torch::Tensor& activations, const SemiNmfOptions& options) {
  if (activations.dim() != 2) fail("semi-NMF takes rows of activations [rows, width], not a tensor of {} dimensions", activations.dim());
  const int64_t rows = activations.size(0), width = activations.size(1);
  if (options.features < 1 || options.features > std::min(rows, width))
    fail_usage("--features {}: give 1 to {}, the smaller of {} rows and width {}", options.features, std::min(rows, width), rows, width);
  if (!(options.kept > 0 && options.kept <= 1)) fail_usage("--kept {}: give a share above 0, at most 1", options.kept);
  if (options.iterations < 1 || options.patience < 1) fail_usage("--iterations and --patience: give at least 1");
  if (!(options.tolerance >= 0)) fail_usage("--tolerance {}: give at least 0", options.tolerance);
}

/// ||activations||^2, of [rows, width] float32.
double sum_of_squares(const torch::Tensor& activations) {
  const int64_t rows = activations.size(0), width = activations.size(1);
  const float* const values = activations.data_ptr<float>();
  std::vector<double> squares(rows);
  parallel_for(rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      double sums[8] = {};  // one after the other, additions would wait for each other
      for (int64_t i = 0; i < width; ++i) sums[i % 8] += static_cast<double>(values[row * width + i]) * values[row * width + i];
      squares[row] = std::accumulate(sums, sums + 8, 0.0);
    }
  });
  const auto bad = std::find_if_not(squares.begin(), squares.end(), [](double square) { return std::isfinite(square); });
  if (bad != squares.end()) fail("the activations hold a NaN or an infinite value in row {}", bad - squares.begin());
  const double sum = std::accumulate(squares.begin(), squares.end(), 0.0);
  if (sum == 0) fail("the activations are all zero; there is nothing to factorise");
  return sum;
}

/// Centroids' members as one-hot rows [rows, features], by Lloyd's algorithm; empty clusters begin anew at a random row.
torch::Tensor cluster_memberships(const torch::Tensor& activations, int64_t count, RandomStream& stream) {
  const int64_t rows = activations.size(0);
  const std::vector<int64_t> order = permutation(rows, stream);
  torch::Tensor centroids = activations.index_select(0, torch::tensor(std::vector<int64_t>(order.begin(), order.begin() + count)));
  torch::Tensor members;
  for (int round = 0; round < kLloydRounds; ++round) {
    // The row's own norm is the same for all centroids.
    const torch::Tensor distances = centroids.square().sum(1) - 2 * torch::mm(activations, centroids.t());
    members = torch::one_hot(distances.argmin(1), count).to(torch::kFloat);
    const torch::Tensor sizes = members.sum(0);
    centroids = torch::mm(members.t(), activations) / sizes.clamp_min(1).unsqueeze(1);
    for (int64_t i = 0; i < count; ++i)
      if (sizes[i].item<float>() == 0) centroids[i].copy_(activations[static_cast<int64_t>(stream.below(rows))]);
  }
  return members;
}

torch::Tensor first_coefficients(const torch::Tensor& activations, const SemiNmfOptions& options) {
  const int64_t rows = activations.size(0);
  if (options.coefficients.defined()) {
    if (options.coefficients.dim() != 2 || options.coefficients.size(0) != rows || options.coefficients.size(1) != options.features)
      fail("semi-NMF was given coefficients [{}] to begin with for {} rows and {} features", fmt::join(options.coefficients.sizes(), ", "), rows,
           options.features);
    return options.coefficients.to(torch::kFloat).clamp_min(kLeast).contiguous();
  }
  RandomStream stream(options.seed, "semi-nmf/" + options.beginning);
  if (options.beginning == "random") {
    torch::Tensor coefficients = torch::empty({rows, options.features});
    float* const values = coefficients.data_ptr<float>();
    for (int64_t i = 0; i < coefficients.numel(); ++i) values[i] = std::max(kLeast, static_cast<float>(stream.uniform()));
    return coefficients;
  }
  if (options.beginning == "svd") {
    const auto [left, values, right] = torch::linalg_svd(activations, false);
    return (left.narrow(1, 0, options.features) * values.narrow(0, 0, options.features).sqrt()).clamp_min(kLeast).contiguous();
  }
  if (options.beginning == "kmeans") return cluster_memberships(activations, options.features, stream).clamp_min(kLeast);
  fail_usage("--beginning {}: choose random, svd or kmeans", options.beginning);
}

/// to [width, rows] = from [rows, width], in blocks of which both sides fit the nearest cache.
void transpose(const float* from, int64_t rows, int64_t width, float* to) {
  constexpr int64_t kColumns = 64, kRows = 16;
  for (int64_t column = 0; column < width; column += kColumns)
    for (int64_t row = 0; row < rows; row += kRows)
      for (int64_t i = column; i < std::min(column + kColumns, width); ++i)
        for (int64_t j = row; j < std::min(row + kRows, rows); ++j) to[i * rows + j] = from[j * width + i];
}

/// Rows in tiles, each of which is worked on while it is in the cache. A tiled matrix [n, rows] is one tile after the other, each
/// [n, rows of the tile]: the rows of a unit or of a feature stand together.
struct RowTiles {
  int64_t rows;

  int64_t count() const { return (rows + kTileRows - 1) / kTileRows; }
  int64_t first(int64_t tile) const { return tile * kTileRows; }
  int64_t size(int64_t tile) const { return std::min(kTileRows, rows - first(tile)); }

  torch::Tensor view(const torch::Tensor& tiled, int64_t n, int64_t tile) const {
    return tiled.narrow(0, n * first(tile), n * size(tile)).view({n, size(tile)});
  }
  /// @param matrix [rows, n]
  torch::Tensor tiled(const torch::Tensor& matrix) const {
    const int64_t n = matrix.size(1);
    const torch::Tensor whole = matrix.contiguous();
    torch::Tensor result = torch::empty({n * rows});
    parallel_for(count(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        transpose(whole.data_ptr<float>() + n * first(tile), size(tile), n, result.data_ptr<float>() + n * first(tile));
    });
    return result;
  }
  /// @return [rows, n]
  torch::Tensor untiled(const torch::Tensor& tiled, int64_t n) const {
    torch::Tensor result = torch::empty({rows, n});
    for (int64_t tile = 0; tile < count(); ++tile) result.narrow(0, first(tile), size(tile)).copy_(view(tiled, n, tile).t());
    return result;
  }
};

/// [a_count, b_count] double: the products of the rows of two tiled matrices, of which a is the larger.
torch::Tensor products_of(const RowTiles& tiles, const torch::Tensor& a, int64_t a_count, const torch::Tensor& b, int64_t b_count) {
  torch::Tensor sums = torch::zeros({a_count, b_count}, torch::kDouble);
  parallel_for(a_count, kRowsTogether, [&](int64_t begin, int64_t end) {
    for (int64_t tile = 0; tile < tiles.count(); ++tile) {
      const int64_t first = tiles.first(tile), size = tiles.size(tile);
      kernels::add_row_products(a.data_ptr<float>() + a_count * first + begin * size, end - begin, b.data_ptr<float>() + b_count * first,
                                b_count, size, sums.data_ptr<double>() + begin * b_count);
    }
  });
  return sums;
}

/// A list of a few entries for each row of a matrix.
struct Entries {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> places;
  std::vector<float> values;

  void add(int64_t place, double value) {
    places.push_back(static_cast<int32_t>(place));
    values.push_back(static_cast<float>(value));
  }
  void end_row() { offsets.push_back(static_cast<int64_t>(places.size())); }
  kernels::CodeRows view() const { return {static_cast<int64_t>(offsets.size()) - 1, offsets.data(), places.data(), values.data()}; }
};

/// What the multiplicative step needs to know of the features.
struct Interactions {
  /// @param squares [features, features] double, the features' products with each other
  /// @param norms   [features] of the columns of coefficients that the step divides by them
  Interactions(const torch::Tensor& squares, const std::vector<double>& norms) {
    const int64_t features = squares.size(0);
    for (int64_t i = 0; i < features; ++i) {
      const double* const row = squares.data_ptr<double>() + i * features;
      for (int64_t j = 0; j < features; ++j) {
        if (row[j] < 0) up.add(j, -row[j] / norms[j]);
        if (row[j] > 0) down.add(j, row[j] / norms[j]);
      }
      up.end_row();
      down.end_row();
      scales.push_back(static_cast<float>(1 / norms[i]));
    }
  }

  /// @return the sum of next * products
  double step(const float* coefficients, const float* products, int64_t rows, float* next) const {
    return kernels::multiplicative_step(
        {coefficients, products, rows, up.view(), down.view(), scales.data(), static_cast<float>(kRidge), kNothing}, next);
  }

  Entries up, down;
  std::vector<float> scales;
};

/// The nth largest value, n from 1.
float nth_largest(const std::vector<float>& values, int64_t n, std::vector<float>& scratch) {
  const auto size = static_cast<int64_t>(values.size()), groups = 2 * n;
  const auto take = [&] {
    std::nth_element(scratch.begin(), scratch.begin() + (n - 1), scratch.end(), std::greater<>());
    return scratch[n - 1];
  };
  const bool few = size < 4 * groups;
  scratch.assign(values.begin(), few ? values.end() : values.begin() + groups);
  if (few) return take();
  // The nth largest of the groups' largest is at most the nth largest of all: few values are left.
  for (int64_t begin = groups; begin < size; begin += groups)
    for (int64_t i = 0; i < std::min(groups, size - begin); ++i) scratch[i] = std::max(scratch[i], values[begin + i]);
  const float bound = take();
  scratch.clear();
  for (const float value : values)
    if (value >= bound) scratch.push_back(value);
  return take();
}

class Factorisation {
 public:
  Factorisation(const torch::Tensor& activations, const SemiNmfOptions& options)
      : options_(options),
        activations_(activations.to(torch::kFloat).contiguous()),
        tiles_{activations_.size(0)},
        by_unit_(tiles_.tiled(activations_)),
        squares_(sum_of_squares(activations_)),
        kept_(static_cast<int64_t>(std::ceil(options.kept * static_cast<double>(activations.size(1))))),
        coefficients_(tiles_.tiled(first_coefficients(activations_, options))),
        products_(torch::empty_like(coefficients_)) {}

  SemiNmf run() {
    SemiNmf result;
    double best = std::numeric_limits<double>::infinity();
    int64_t improved = 0;
    overlaps_ = products_of(tiles_, coefficients_, options_.features, coefficients_, options_.features);
    Progress progress("factorise", options_.iterations, "iterations");
    for (int64_t iteration = 0; iteration < options_.iterations; ++iteration) {
      solve_features();
      keep_winners();
      rescale(result.reseeded);
      const torch::Tensor squares = squares_of_features();
      const double cross = update_coefficients({squares, norms_});
      overlaps_ = products_of(tiles_, coefficients_, options_.features, coefficients_, options_.features);
      const double loss = squares_ - 2 * cross + (squares * overlaps_).sum().item<double>();
      if (!std::isfinite(loss)) fail("the loss of iteration {} is not finite; are the activations far out of scale?", iteration + 1);
      result.losses.push_back(loss);
      if (loss < best * (1.0 - options_.tolerance) || iteration == 0) improved = iteration;
      if (loss < best) {
        best = loss;
        result.best = iteration;
        result.features = features_;  // these are replaced, not changed, by the next iteration's steps
        result.coefficients = coefficients_;
      }
      progress.update(iteration + 1, fmt::format("unexplained {:.4f}", loss / squares_));
      if (interrupted()) throw Interrupted("interrupted while factorising; nothing was written");
      if (iteration - improved >= options_.patience) break;
    }
    result.coefficients = tiles_.untiled(result.coefficients, options_.features);
    return result;
  }

 private:
  int64_t width() const { return activations_.size(1); }

  /// Least squares for given coefficients; in double, since columns may nearly agree.
  void solve_features() {
    const torch::Tensor unit = torch::eye(options_.features, torch::kDouble), square = overlaps_ + kRidge * unit;
    const torch::Tensor right = products_of(tiles_, by_unit_, width(), coefficients_, options_.features);
    const auto [factor, failed] = torch::linalg_cholesky_ex(square);
    const torch::Tensor inverse = failed.item<int>() == 0 ? torch::cholesky_inverse(factor) : torch::linalg_inv(square + 1e-3 * unit);
    features_ = torch::mm(inverse, right.t()).to(torch::kFloat).contiguous();
    if (!std::isfinite(features_.abs().sum(torch::kDouble).item<double>()))
      fail("the features are not finite; are the activations far out of scale?");
  }

  /// Zeroes all but the largest entries of each feature; what ties with the least of them stays.
  void keep_winners() {
    parallel_for(options_.features, 8, [&](int64_t begin, int64_t end) {
      std::vector<float> sizes(width()), scratch;
      for (int64_t i = begin; i < end; ++i) {
        float* const row = features_.data_ptr<float>() + i * width();
        for (int64_t j = 0; j < width(); ++j) sizes[j] = std::abs(row[j]);
        const float least = nth_largest(sizes, kept_, scratch);
        for (int64_t j = 0; j < width(); ++j) row[j] = sizes[j] < least ? 0.0f : row[j];
      }
    });
  }

  /// Finds the norms of columns of coefficients, by which the next step divides them, and multiplies the features by them. A feature that
  /// has died begins anew.
  void rescale(int64_t& reseeded) {
    norms_.resize(options_.features);
    for (int64_t i = 0; i < options_.features; ++i) {
      norms_[i] = std::sqrt(overlaps_[i][i].item<double>());
      if (norms_[i] > kDeadNorm && features_[i].count_nonzero().item<int64_t>() > 0) continue;
      begin_anew(i);
      norms_[i] = 1;
      ++reseeded;
    }
    features_.mul_(torch::tensor(norms_, torch::kDouble).to(torch::kFloat).unsqueeze(1));
  }

  /// Feature i becomes the row that is reconstructed worst.
  void begin_anew(int64_t i) {
    const torch::Tensor coefficients = tiles_.untiled(coefficients_, options_.features);
    const auto worst = (activations_ - torch::mm(coefficients, features_)).square().sum(1).argmax().item<int64_t>();
    coefficients.select(1, i).fill_(kLeast);
    coefficients[worst][i] = 1.0f;
    coefficients_ = tiles_.tiled(coefficients);  // the best so far may share the old ones
    features_[i].copy_(activations_[worst]);
    keep_winners();
  }

  torch::Tensor squares_of_features() const {
    torch::Tensor squares = torch::zeros({options_.features, options_.features}, torch::kDouble);
    parallel_for(options_.features, 8, [&](int64_t begin, int64_t end) {
      kernels::add_row_products(features_.data_ptr<float>() + begin * width(), end - begin, features_.data_ptr<float>(), options_.features,
                                width(), squares.data_ptr<double>() + begin * options_.features);
    });
    return squares;
  }

  /// Products with the features, and the multiplicative step. @return the sum of coefficients * products
  double update_coefficients(const Interactions& interactions) {
    const bool sparse = 4 * kept_ <= width();
    if (!sparse)
      for (int64_t tile = 0; tile < tiles_.count(); ++tile) {
        torch::Tensor products = tiles_.view(products_, options_.features, tile);
        torch::mm_out(products, features_, tiles_.view(by_unit_, width(), tile));
      }
    Entries winners;
    for (int64_t i = 0; sparse && i < options_.features; ++i) {
      const float* const row = features_.data_ptr<float>() + i * width();
      for (int64_t unit = 0; unit < width(); ++unit)
        if (row[unit] != 0.0f) winners.add(unit, row[unit]);
      winners.end_row();
    }
    const kernels::CodeColumns users = kernels::columns_of(winners.view(), width());
    torch::Tensor next = torch::empty_like(coefficients_);
    std::vector<double> cross(tiles_.count());
    parallel_for(tiles_.count(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t size = tiles_.size(tile), at = options_.features * tiles_.first(tile);
        float* const products = products_.data_ptr<float>() + at;
        if (sparse) multiply_by(winners, users, by_unit_.data_ptr<float>() + width() * tiles_.first(tile), size, products);
        cross[tile] = interactions.step(coefficients_.data_ptr<float>() + at, products, size, next.data_ptr<float>() + at);
      }
    });
    coefficients_ = next;
    return std::accumulate(cross.begin(), cross.end(), 0.0);
  }

  /// products [features, rows] of a tile, from the few units of each feature. In the order of units, of which those soon wanted are fetched
  /// meanwhile: the tile comes from memory.
  static void multiply_by(const Entries& winners, const kernels::CodeColumns& users, const float* by_unit, int64_t rows, float* products) {
    const auto entries = static_cast<int64_t>(users.entries.size());
    std::fill_n(products, winners.view().rows * rows, 0.0f);
    for (int64_t at = 0; at < entries; ++at) {
      const float* const ahead = by_unit + winners.places[users.entries[std::min(at + kAhead, entries - 1)]] * rows;
      for (int64_t i = 0; i < rows; i += 16) __builtin_prefetch(ahead + i, 0, 2);
      const int64_t entry = users.entries[at];
      kernels::add_weighted_rows(products + users.rows[at] * rows, rows, &winners.places[entry], &winners.values[entry], 1, by_unit);
    }
  }

  const SemiNmfOptions& options_;
  torch::Tensor activations_;
  RowTiles tiles_;
  torch::Tensor by_unit_;  // activations, tiled
  double squares_;
  int64_t kept_;
  torch::Tensor coefficients_, products_;  // of each feature, tiled
  torch::Tensor features_;                 // [features, width]
  torch::Tensor overlaps_;                 // [features, features] double, the products of columns of coefficients
  std::vector<double> norms_;
};

}  // namespace

SemiNmf semi_nmf(const torch::Tensor& activations, const SemiNmfOptions& options) {
  const torch::NoGradGuard no_autograd;
  check_options(activations, options);
  return Factorisation(activations, options).run();
}

torch::Tensor semi_nmf_coefficients(const torch::Tensor& activations, const torch::Tensor& features, int64_t iterations) {
  const torch::NoGradGuard no_autograd;
  if (activations.dim() != 2 || activations.size(1) != features.size(1))
    fail("the features take rows of width {}, they were given {}", features.size(1), fmt::format("[{}]", fmt::join(activations.sizes(), ", ")));
  const RowTiles tiles{activations.size(0)};
  const int64_t count = features.size(0);
  const torch::Tensor products = torch::mm(activations, features.t()), squares = torch::mm(features, features.t());
  const Interactions interactions(squares.to(torch::kDouble), std::vector<double>(count, 1.0));
  // Begins where each feature alone would be best.
  const torch::Tensor tiled = tiles.tiled(products);
  torch::Tensor coefficients = tiles.tiled((products / squares.diag().clamp_min(kRidge)).clamp_min(kLeast));
  parallel_for(tiles.count(), 1, [&](int64_t begin, int64_t end) {
    std::vector<float> next(count * kTileRows);
    for (int64_t tile = begin; tile < end; ++tile) {
      float* const tile_coefficients = coefficients.data_ptr<float>() + count * tiles.first(tile);
      const int64_t size = tiles.size(tile);
      for (int64_t i = 0; i < iterations; ++i) {
        interactions.step(tile_coefficients, tiled.data_ptr<float>() + count * tiles.first(tile), size, next.data());
        std::copy_n(next.data(), count * size, tile_coefficients);
      }
    }
  });
  return tiles.untiled(coefficients, count);
}

std::vector<SemiNmf> semi_nmf_hierarchy(const torch::Tensor& activations, const std::vector<int64_t>& ranks, const SemiNmfOptions& options) {
  if (ranks.empty() || std::adjacent_find(ranks.begin(), ranks.end(), std::less_equal<>()) != ranks.end())
    fail_usage("--ranks {}: give descending numbers of features", fmt::join(ranks, ","));
  std::vector<SemiNmf> levels;
  torch::Tensor rows = activations;
  for (const int64_t rank : ranks) {
    SemiNmfOptions level = options;
    level.features = rank;
    levels.push_back(semi_nmf(rows, level));
    const torch::Tensor norms = levels.back().features.norm(2, {1}).clamp_min(kDeadNorm);
    levels.back().features.div_(norms.unsqueeze(1));
    levels.back().coefficients.mul_(norms);
    rows = levels.back().features;
  }
  return levels;
}

}  // namespace sememe
