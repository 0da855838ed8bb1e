#pragma once
// Sparse codes by pointer, row by row as they are computed and atom by atom as gradients need them.

#include <cstdint>
#include <vector>

namespace sememe::kernels {

/// Compressed rows: row i holds entries [offsets[i], offsets[i + 1]).
struct CodeRows {
  int64_t rows;
  const int64_t* offsets;  ///< [rows + 1]
  const int32_t* atoms;    ///< [entries]
  const float* values;     ///< [entries]
  int64_t entries() const { return rows == 0 ? 0 : offsets[rows]; }
};

/// @throws Error naming the row unless offsets start at 0 and never fall, and every atom is in [0, size)
void check_codes(const CodeRows& codes, int64_t size);

/// The entries of codes grouped by atom, each group in ascending row order: atom a owns places [offsets[a], offsets[a + 1]).
struct CodeColumns {
  std::vector<int64_t> offsets;  ///< [size + 1]
  std::vector<int32_t> rows;     ///< [entries] the row of the entry at each place
  std::vector<int64_t> entries;  ///< [entries] its place in the CodeRows
  int64_t size() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

/// Counting sort by atom, linear in entries + size.
/// @throws Error as check_codes, or for more than 2^31 - 1 rows
CodeColumns columns_of(const CodeRows& codes, int64_t size);

}  // namespace sememe::kernels
