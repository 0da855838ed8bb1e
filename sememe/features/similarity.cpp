#include "sememe/features/similarity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr int64_t kBlock = 1024;  // rows of the matrix of cosines that are held at a time

torch::Tensor unit_rows(const torch::Tensor& atoms) {
  return torch::nn::functional::normalize(atoms.to(torch::kCPU, torch::kFloat), torch::nn::functional::NormalizeFuncOptions().dim(1));
}

void check_widths(const torch::Tensor& first, const torch::Tensor& second) {
  if (first.size(1) != second.size(1))
    fail("atoms of width {} have no cosine with atoms of width {}; were both dictionaries learnt at one site?", first.size(1), second.size(1));
}

/// Calls work(first row, cosines [rows, second]) with the cosines of some rows of `first` at a time.
template <class Work>
void each_block(const torch::Tensor& first, const torch::Tensor& second, Work work) {
  check_widths(first, second);
  const torch::Tensor a = unit_rows(first), b = unit_rows(second).t();
  for (int64_t row = 0; row < a.size(0); row += kBlock) work(row, torch::mm(a.narrow(0, row, std::min(kBlock, a.size(0) - row)), b));
}

double share_above(const torch::Tensor& cosines, double threshold) {
  return (cosines > threshold).to(torch::kDouble).mean().item<double>();
}

/// One shortest augmenting path at a time, from a row without a column to a column without a row.
class Assignment {
 public:
  explicit Assignment(const torch::Tensor& costs)
      : costs_(costs.data_ptr<float>()),
        rows_(static_cast<size_t>(costs.size(0))),
        columns_(static_cast<size_t>(costs.size(1))),
        row_of_(columns_, kNone),
        column_of_(rows_, kNone),
        row_potential_(rows_, 0.0),
        column_potential_(columns_, 0.0),
        distance_(columns_),
        from_(columns_),
        open_(columns_) {}

  std::vector<int64_t> solve() {
    reduce();
    for (size_t row = 0; row < rows_; ++row)
      if (column_of_[row] == kNone) augment(row);
    return {column_of_.begin(), column_of_.end()};
  }

 private:
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();

  double cost(size_t row, size_t column) const { return static_cast<double>(costs_[row * columns_ + column]); }

  /// A start that is already optimal for the rows it serves: each row takes its cheapest column if no row before it did.
  void reduce() {
    for (size_t row = 0; row < rows_; ++row) {
      const float* const begin = costs_ + row * columns_;
      const auto best = static_cast<size_t>(std::min_element(begin, begin + columns_) - begin);
      row_potential_[row] = cost(row, best);
      if (row_of_[best] != kNone) continue;
      row_of_[best] = row;
      column_of_[row] = best;
    }
  }

  void augment(size_t start) {
    std::fill(distance_.begin(), distance_.end(), std::numeric_limits<double>::infinity());
    std::iota(open_.begin(), open_.end(), size_t{0});
    size_t open = columns_;  // the columns not yet reached for good are open_[0 .. open)
    std::vector<size_t> rows{start}, closed;
    double shortest = 0.0;
    size_t row = start, end = kNone;
    while (end == kNone) {
      size_t best = kNone;
      double least = std::numeric_limits<double>::infinity();
      const double base = shortest - row_potential_[row];
      const float* const costs = costs_ + row * columns_;
      for (size_t i = 0; i < open; ++i) {
        const size_t column = open_[i];
        const double along = base + static_cast<double>(costs[column]) - column_potential_[column];
        if (along < distance_[column]) {
          distance_[column] = along;
          from_[column] = row;
        }
        // Of equally near columns a free one ends the search.
        if (distance_[column] < least || (distance_[column] == least && row_of_[column] == kNone)) {
          least = distance_[column];
          best = i;
        }
      }
      shortest = least;
      const size_t column = open_[best];
      open_[best] = open_[--open];
      closed.push_back(column);
      if (row_of_[column] == kNone) {
        end = column;
      } else {
        row = row_of_[column];
        rows.push_back(row);
      }
    }
    // rows[i] was reached through closed[i - 1]; the potentials keep every reduced cost at least 0, and 0 along the assignment.
    row_potential_[start] += shortest;
    for (size_t i = 1; i < rows.size(); ++i) row_potential_[rows[i]] += shortest - distance_[closed[i - 1]];
    for (const size_t column : closed) column_potential_[column] -= shortest - distance_[column];
    for (size_t column = end; column != kNone;) {
      const size_t taker = from_[column];
      row_of_[column] = taker;
      std::swap(column, column_of_[taker]);
    }
  }

  const float* costs_;
  size_t rows_, columns_;
  std::vector<size_t> row_of_, column_of_;
  std::vector<double> row_potential_, column_potential_, distance_;
  std::vector<size_t> from_, open_;
};

}  // namespace

std::vector<int64_t> least_cost_assignment(const torch::Tensor& costs) {
  if (costs.size(0) > costs.size(1))
    fail("{} rows cannot each have one of {} columns; transpose the costs", costs.size(0), costs.size(1));
  const torch::Tensor whole = costs.to(torch::kCPU, torch::kFloat).contiguous();
  const torch::Tensor bad = whole.isfinite().logical_not().nonzero();
  if (bad.size(0) > 0) fail("the cost of row {} and column {} is not finite", bad[0][0].item<int64_t>(), bad[0][1].item<int64_t>());
  return Assignment(whole).solve();
}

NearestAtoms nearest_atoms(const torch::Tensor& first, const torch::Tensor& second) {
  std::vector<torch::Tensor> nearest;
  each_block(first, second, [&](int64_t, const torch::Tensor& cosines) { nearest.push_back(std::get<0>(cosines.max(1))); });
  const torch::Tensor all = torch::cat(nearest);
  return {all.mean(torch::kDouble).item<double>(), share_above(all, 0.7), share_above(all, 0.9)};
}

double support_overlap(const torch::Tensor& first, const torch::Tensor& second) {
  const torch::Tensor one = first != 0, other = second != 0;
  const auto either = (one | other).sum().item<int64_t>();
  return either == 0 ? 1.0 : static_cast<double>((one & other).sum().item<int64_t>()) / static_cast<double>(either);
}

MatchedAtoms match_atoms(const torch::Tensor& first, const torch::Tensor& second) {
  check_widths(first, second);
  if (std::max(first.size(0), second.size(0)) > kLargestMatching)
    fail("a dictionary of {} atoms is too large to be matched one to one; the largest is {}", std::max(first.size(0), second.size(0)),
         kLargestMatching);
  const bool turned = first.size(0) > second.size(0);
  const torch::Tensor cosines = turned ? torch::mm(unit_rows(second), unit_rows(first).t()) : torch::mm(unit_rows(first), unit_rows(second).t());
  const std::vector<int64_t> columns = least_cost_assignment(-cosines);
  MatchedAtoms matched{std::vector<int64_t>(static_cast<size_t>(first.size(0)), -1),
                       std::vector<float>(static_cast<size_t>(first.size(0)), 0.0f)};
  const torch::Tensor pairs = cosines.gather(1, torch::tensor(columns, torch::kLong).unsqueeze(1)).squeeze(1).contiguous();
  for (size_t row = 0; row < columns.size(); ++row) {
    const size_t atom = turned ? static_cast<size_t>(columns[row]) : row;
    matched.partners[atom] = turned ? static_cast<int64_t>(row) : columns[row];
    matched.cosines[atom] = pairs.data_ptr<float>()[row];
  }
  matched.mean_cosine = pairs.mean(torch::kDouble).item<double>();
  matched.above_07 = share_above(pairs, 0.7);
  matched.above_09 = share_above(pairs, 0.9);
  return matched;
}

bool SplitAtom::nested() const {
  int64_t firing = 0;
  for (const std::optional<double>& share : inside) {
    if (!share) continue;
    if (*share < FeatureSplitting::kInside) return false;
    ++firing;
  }
  return firing >= 2;
}

FeatureSplitting::FeatureSplitting(const torch::Tensor& smaller, const torch::Tensor& larger, double threshold)
    : threshold_(threshold),
      first_pair_{0},
      pairs_of_part_(static_cast<size_t>(larger.size(0))),
      firings_(static_cast<size_t>(smaller.size(0)), 0),
      part_firings_(static_cast<size_t>(larger.size(0)), 0),
      covered_(firings_.size(), 0),
      seen_in_(firings_.size(), 0),
      covered_in_(firings_.size(), 0) {
  each_block(smaller, larger, [&](int64_t row, const torch::Tensor& cosines) {
    const torch::Tensor places = (cosines > threshold).nonzero().contiguous();  // ascending
    int64_t i = 0;
    for (int64_t atom = row; atom < row + cosines.size(0); ++atom) {
      for (; i < places.size(0) && places.data_ptr<int64_t>()[2 * i] == atom - row; ++i) {
        const int64_t part = places.data_ptr<int64_t>()[2 * i + 1];
        pairs_of_part_[static_cast<size_t>(part)].push_back(static_cast<int64_t>(pairs_.size()));
        pairs_.push_back({atom, part});
      }
      first_pair_.push_back(static_cast<int64_t>(pairs_.size()));
    }
  });
}

void FeatureSplitting::add(const SparseCodes& smaller, const SparseCodes& larger) {
  if (smaller.rows() != larger.rows()) fail("codes of {} and {} rows are not of the same activations", smaller.rows(), larger.rows());
  const auto entries = [](const SparseCodes& codes, int64_t row) {
    const int64_t* const offsets = codes.offsets.data_ptr<int64_t>();
    return std::span(codes.atoms.data_ptr<int32_t>() + offsets[row], static_cast<size_t>(offsets[row + 1] - offsets[row]));
  };
  for (int64_t row = 0; row < smaller.rows(); ++row) {
    ++rows_;
    for (const int32_t atom : entries(smaller, row)) {
      ++firings_[static_cast<size_t>(atom)];
      seen_in_[static_cast<size_t>(atom)] = rows_;
    }
    for (const int32_t part : entries(larger, row)) {
      ++part_firings_[static_cast<size_t>(part)];
      for (const int64_t i : pairs_of_part_[static_cast<size_t>(part)]) {
        Pair& pair = pairs_[static_cast<size_t>(i)];
        const auto atom = static_cast<size_t>(pair.atom);
        if (seen_in_[atom] != rows_) continue;
        ++pair.together;
        if (covered_in_[atom] != rows_) ++covered_[atom];
        covered_in_[atom] = rows_;
      }
    }
  }
}

std::vector<SplitAtom> FeatureSplitting::atoms() const {
  const auto share = [](int64_t part, int64_t whole) {
    return whole == 0 ? std::nullopt : std::optional(static_cast<double>(part) / static_cast<double>(whole));
  };
  std::vector<SplitAtom> atoms;
  for (size_t atom = 0; atom < firings_.size(); ++atom) {
    SplitAtom split;
    split.atom = static_cast<int64_t>(atom);
    split.covered = share(covered_[atom], firings_[atom]);
    for (int64_t i = first_pair_[atom]; i < first_pair_[atom + 1]; ++i) {
      const Pair& pair = pairs_[static_cast<size_t>(i)];
      split.parts.push_back(pair.part);
      split.inside.push_back(share(pair.together, part_firings_[static_cast<size_t>(pair.part)]));
    }
    atoms.push_back(std::move(split));
  }
  return atoms;
}

Json FeatureSplitting::summary() const {
  int64_t with_parts = 0, split = 0, nested = 0, firing_parts = 0, firing_atoms = 0;
  size_t largest = 0;
  double inside = 0.0, covered = 0.0;
  for (const SplitAtom& atom : atoms()) {
    with_parts += !atom.parts.empty();
    split += atom.parts.size() >= 2;
    nested += atom.nested();
    largest = std::max(largest, atom.parts.size());
    for (const std::optional<double>& share : atom.inside) {
      if (!share) continue;
      ++firing_parts;
      inside += *share;
    }
    if (atom.parts.empty() || !atom.covered) continue;
    ++firing_atoms;
    covered += *atom.covered;
  }
  Json summary{{"threshold", threshold_},
               {"atoms", firings_.size()},
               {"atoms_with_parts", with_parts},
               {"atoms_split", split},
               {"largest", largest},
               {"mean_parts", static_cast<double>(pairs_.size()) / static_cast<double>(firings_.size())}};
  if (rows_ == 0) return summary;
  summary["rows"] = rows_;
  summary["nested"] = nested;
  if (firing_parts > 0) summary["mean_inside"] = inside / static_cast<double>(firing_parts);
  if (firing_atoms > 0) summary["mean_covered"] = covered / static_cast<double>(firing_atoms);
  return summary;
}

}  // namespace sememe
