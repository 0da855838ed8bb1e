#pragma once
// How alike two dictionaries are: which atoms of one stand for which of the other, one to one or several to one.
//
// Likeness is the cosine, not its absolute value: codes are positive, so an atom and its negative stand for different things.

#include <torch/torch.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "sememe/base/json.h"
#include "sememe/features/dictionary.h"

namespace sememe {

/// The assignment of each row to a column of its own that costs least in sum: shortest augmenting paths with potentials (Jonker &
/// Volgenant 1987, after Kuhn and Munkres), O(rows^2 columns); potentials are float64.
/// @param costs [rows, columns] float32, finite, rows <= columns
/// @return [rows] the column of each
/// @throws Error if there are more rows than columns, or if a cost is NaN or infinite (names row and column)
std::vector<int64_t> least_cost_assignment(const torch::Tensor& costs);

/// Atoms of one dictionary against all of another.
struct NearestAtoms {
  double mean_cosine = 0.0;                ///< of each atom with the one nearest to it (mean max cosine)
  double above_07 = 0.0, above_09 = 0.0;   ///< share of atoms whose nearest lies above
};

/// The one-to-one matching of two dictionaries that has the largest sum of cosines. Every atom of the smaller has a partner.
struct MatchedAtoms {
  std::vector<int64_t> partners;  ///< [first's size] atom of the second; -1 for those of a larger first that are left over
  std::vector<float> cosines;     ///< [first's size], 0 where there is no partner
  double mean_cosine = 0.0;       ///< over the pairs; between seeds of one recipe this is its stability
  double above_07 = 0.0, above_09 = 0.0;  ///< share of the pairs
};

/// Largest dictionary that is matched one to one: the matrix of all cosines is held, 4 bytes each, and time grows with the cube.
inline constexpr int64_t kLargestMatching = 8192;

/// first, second [atoms, width] of one width, any norms; an atom of zeros has cosine 0 with all.
NearestAtoms nearest_atoms(const torch::Tensor& first, const torch::Tensor& second);
/// @throws Error naming the size if one has more than kLargestMatching atoms
MatchedAtoms match_atoms(const torch::Tensor& first, const torch::Tensor& second);

/// Jaccard index of the units that two directions [width] use: those not zero in both over those not zero in either; 1 if neither uses any.
double support_overlap(const torch::Tensor& first, const torch::Tensor& second);

/// An atom of a smaller dictionary, and the atoms of a larger one that point its way.
struct SplitAtom {
  int64_t atom = 0;
  std::vector<int64_t> parts;                  ///< atoms of the larger with a cosine above the threshold, ascending
  std::vector<std::optional<double>> inside;   ///< of each part: share of its firings where the atom fires too; none if it never fires
  std::optional<double> covered;               ///< share of the atom's firings where at least one part fires; none if it never fires
  /// The atom has at least two parts that fire, and each of those fires (nearly) only where the atom does: its meaning was split.
  bool nested() const;
};

/// Feature splitting (Bricken et al. 2023): counts the places where atoms and their parts fire together, streaming.
class FeatureSplitting {
 public:
  /// Share of a part's firings that must lie inside the atom's for it to be nested.
  static constexpr double kInside = 0.9;

  /// @param smaller, larger [atoms, width]
  FeatureSplitting(const torch::Tensor& smaller, const torch::Tensor& larger, double threshold = 0.7);

  /// Codes of the same rows by both. @throws Error if the numbers of rows differ
  void add(const SparseCodes& smaller, const SparseCodes& larger);

  int64_t rows() const { return rows_; }
  std::vector<SplitAtom> atoms() const;
  /// threshold, atoms_with_parts (at least 1), atoms_split (at least 2), largest, mean_parts, and once rows were added: rows, nested
  /// (atoms), mean_inside (over parts that fire), mean_covered (over atoms that fire and have parts).
  Json summary() const;

 private:
  struct Pair {
    int64_t atom = 0, part = 0, together = 0;
  };
  double threshold_;
  int64_t rows_ = 0;
  std::vector<Pair> pairs_;                           // by atom, then part
  std::vector<int64_t> first_pair_;                   // [smaller + 1] pairs of an atom
  std::vector<std::vector<int64_t>> pairs_of_part_;   // [larger]
  std::vector<int64_t> firings_, part_firings_, covered_;
  std::vector<int64_t> seen_in_, covered_in_;         // row + 1 in which an atom fired, or was covered, last
};

}  // namespace sememe
