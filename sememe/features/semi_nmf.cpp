#include "sememe/features/semi_nmf.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/base/random.h"
#include "sememe/base/threads.h"
#include "sememe/kernels/weighted_rows.h"

namespace sememe {
namespace {

constexpr double kRidge = 1e-6;
constexpr float kLeast = 1e-6f;       // coefficients begin above 0: the multiplicative step cannot leave it
constexpr float kNothing = 1e-30f;    // a coefficient below this is 0
constexpr double kDeadNorm = 1e-8;    // of a column of coefficients
constexpr int kLloydRounds = 15;
constexpr int64_t kTileRows = 256;

void check_options(const torch::Tensor& activations, const SemiNmfOptions& options) {
  if (activations.dim() != 2) fail("semi-NMF takes rows of activations [rows, width], not a tensor of {} dimensions", activations.dim());
  const int64_t rows = activations.size(0), width = activations.size(1);
  if (options.features < 1 || options.features > std::min(rows, width))
    fail_usage("--features {}: give 1 to {}, the smaller of {} rows and width {}", options.features, std::min(rows, width), rows, width);
  if (!(options.kept > 0 && options.kept <= 1)) fail_usage("--kept {}: give a share above 0, at most 1", options.kept);
  if (options.iterations < 1 || options.patience < 1) fail_usage("--iterations and --patience: give at least 1");
  if (!(options.tolerance >= 0)) fail_usage("--tolerance {}: give at least 0", options.tolerance);
  const torch::Tensor finite = torch::isfinite(activations).all(1);
  if (!finite.all().item<bool>())
    fail("the activations hold a NaN or an infinite value in row {}", finite.logical_not().nonzero()[0].item<int64_t>());
  if (!(activations.abs().max().item<float>() > 0)) fail("the activations are all zero; there is nothing to factorise");
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

class Factorisation {
 public:
  Factorisation(const torch::Tensor& activations, const SemiNmfOptions& options)
      : options_(options),
        activations_(activations.to(torch::kFloat).contiguous()),
        squares_(activations_.square().sum(torch::kDouble).item<double>()),
        kept_(static_cast<int64_t>(std::ceil(options.kept * static_cast<double>(activations.size(1))))),
        by_feature_(first_coefficients(activations_, options).t().contiguous()),
        products_(torch::empty({options.features, activations_.size(0)})) {
    for (int64_t row = 0; row < activations_.size(0); row += kTileRows)
      tiles_.push_back(activations_.narrow(0, row, std::min(kTileRows, activations_.size(0) - row)).t().contiguous());
  }

  SemiNmf run() {
    SemiNmf result;
    double best = std::numeric_limits<double>::infinity();
    int64_t improved = 0;
    torch::Tensor overlaps = torch::mm(by_feature_, by_feature_.t());
    Progress progress("factorise", options_.iterations, "iterations");
    for (int64_t iteration = 0; iteration < options_.iterations; ++iteration) {
      solve_features(overlaps);
      keep_winners();
      rescale(result.reseeded);
      multiply_by_features();
      const torch::Tensor squares = torch::mm(features_, features_.t());
      update_coefficients(squares);
      overlaps = torch::mm(by_feature_, by_feature_.t());
      const double loss = loss_of(squares, overlaps);
      if (!std::isfinite(loss)) fail("the loss of iteration {} is not finite; are the activations far out of scale?", iteration + 1);
      result.losses.push_back(loss);
      if (loss < best * (1.0 - options_.tolerance) || iteration == 0) improved = iteration;
      if (loss < best) {
        best = loss;
        result.best = iteration;
        result.features = features_.clone();
        result.coefficients = by_feature_;  // replaced, not changed, by the next iteration's step
      }
      progress.update(iteration + 1, fmt::format("unexplained {:.4f}", loss / squares_));
      if (interrupted()) throw Interrupted("interrupted while factorising; nothing was written");
      if (iteration - improved >= options_.patience) break;
    }
    result.coefficients = result.coefficients.t().contiguous();
    return result;
  }

 private:
  /// Least squares for given coefficients; in double, since columns may nearly agree.
  void solve_features(const torch::Tensor& overlaps) {
    const torch::Tensor square = overlaps.to(torch::kDouble) + kRidge * torch::eye(options_.features, torch::kDouble);
    const torch::Tensor right = torch::mm(by_feature_, activations_).to(torch::kDouble);
    const auto [factor, failed] = torch::linalg_cholesky_ex(square);
    features_ = failed.item<int>() == 0 ? torch::cholesky_solve(right, factor).to(torch::kFloat)
                                        : torch::linalg_solve(square + 1e-3 * torch::eye(options_.features, torch::kDouble), right).to(torch::kFloat);
    features_ = features_.contiguous();
  }

  /// Zeroes all but the largest entries of each feature, and lists those; what ties with the least of them stays.
  void keep_winners() {
    const int64_t width = features_.size(1);
    winners_.assign(options_.features, {});
    weights_.assign(options_.features, {});
    parallel_for(options_.features, 8, [&](int64_t begin, int64_t end) {
      std::vector<float> sizes(width);
      for (int64_t i = begin; i < end; ++i) {
        float* const row = features_.data_ptr<float>() + i * width;
        for (int64_t j = 0; j < width; ++j) sizes[j] = std::abs(row[j]);
        std::nth_element(sizes.begin(), sizes.begin() + (kept_ - 1), sizes.end(), std::greater<>());
        const float least = sizes[kept_ - 1];
        for (int64_t j = 0; j < width; ++j) {
          if (std::abs(row[j]) < least) row[j] = 0.0f;
          if (row[j] != 0.0f) winners_[i].push_back(static_cast<int32_t>(j));
        }
      }
    });
  }

  /// Columns of coefficients to norm 1, their scale into the features. A feature that has died begins anew.
  void rescale(int64_t& reseeded) {
    const torch::Tensor norms = by_feature_.norm(2, {1});
    for (int64_t i = 0; i < options_.features; ++i) {
      if (norms[i].item<double>() > kDeadNorm && !winners_[i].empty()) continue;
      const torch::Tensor errors = (activations_ - torch::mm(by_feature_.t(), features_)).square().sum(1);
      const auto worst = errors.argmax().item<int64_t>();
      by_feature_ = by_feature_.clone();  // the best so far may share it
      by_feature_[i].fill_(kLeast);
      by_feature_[i][worst] = 1.0f;
      features_[i].copy_(activations_[worst]);
      norms[i] = 1.0f;
      ++reseeded;
      keep_winners();
    }
    by_feature_ = by_feature_ / norms.unsqueeze(1);
    features_.mul_(norms.unsqueeze(1));
    for (int64_t i = 0; i < options_.features; ++i) {
      const float* const row = features_.data_ptr<float>() + i * features_.size(1);
      weights_[i].clear();
      for (const int32_t unit : winners_[i]) weights_[i].push_back(row[unit]);
    }
  }

  /// products_ = features . A^T [features, rows], from the winners alone where they are few.
  void multiply_by_features() {
    const int64_t rows = activations_.size(0);
    if (4 * kept_ > features_.size(1)) {
      torch::mm_out(products_, features_, activations_.t());
      return;
    }
    products_.zero_();
    parallel_for(static_cast<int64_t>(tiles_.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t tile = begin; tile < end; ++tile)
        for (int64_t i = 0; i < options_.features; ++i)
          kernels::add_weighted_rows(products_.data_ptr<float>() + i * rows + tile * kTileRows, tiles_[tile].size(1), winners_[i].data(),
                                     weights_[i].data(), static_cast<int64_t>(weights_[i].size()), tiles_[tile].data_ptr<float>());
    });
  }

  /// G <- G sqrt(([P]+ + G [Q]-) / ([P]- + G [Q]+ + ridge)), P = A F^T, Q = F F^T (Ding et al. 2010, eq. 13).
  void update_coefficients(const torch::Tensor& squares) {
    by_feature_ = multiplicative_step(by_feature_, products_, squares);
  }

  double loss_of(const torch::Tensor& squares, const torch::Tensor& overlaps) const {
    const double cross = (by_feature_ * products_).sum(torch::kDouble).item<double>();
    return squares_ - 2 * cross + (squares.to(torch::kDouble) * overlaps.to(torch::kDouble)).sum().item<double>();
  }

 public:
  /// @param by_feature, products [features, rows]; squares is symmetric
  static torch::Tensor multiplicative_step(const torch::Tensor& by_feature, const torch::Tensor& products, const torch::Tensor& squares) {
    torch::Tensor up = torch::mm((-squares).clamp_min(0), by_feature), down = torch::mm(squares.clamp_min(0), by_feature);
    const torch::Tensor positive = products.clamp_min(0);
    down.add_(positive).sub_(products).add_(kRidge);  // [P]- = [P]+ - P
    torch::Tensor next = up.add_(positive).div_(down).clamp_min_(0).sqrt_().mul_(by_feature);
    // What nears 0 would become subnormal, on which products are many times slower.
    return torch::threshold_(next, kNothing, 0);
  }

 private:
  const SemiNmfOptions& options_;
  torch::Tensor activations_;
  std::vector<torch::Tensor> tiles_;  // [width, some rows] each: the rows of a unit stand together, a tile stays in the cache
  double squares_;
  int64_t kept_;
  torch::Tensor by_feature_, products_, features_;  // [features, rows] coefficients and products, [features, width]
  std::vector<std::vector<int32_t>> winners_;
  std::vector<std::vector<float>> weights_;
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
  const torch::Tensor products = torch::mm(features, activations.t()), squares = torch::mm(features, features.t());
  // Begins where each feature alone would be best.
  torch::Tensor by_feature = (products / squares.diag().clamp_min(kRidge).unsqueeze(1)).clamp_min(kLeast);
  for (int64_t i = 0; i < iterations; ++i) by_feature = Factorisation::multiplicative_step(by_feature, products, squares);
  return by_feature.t().contiguous();
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
