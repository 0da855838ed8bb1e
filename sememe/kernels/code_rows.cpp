#include "sememe/kernels/code_rows.h"

#include <limits>

#include "sememe/base/error.h"

namespace sememe::kernels {

void check_codes(const CodeRows& codes, int64_t size) {
  if (codes.rows < 0 || codes.rows > std::numeric_limits<int32_t>::max())
    fail("sparse codes: {} rows; give at most 2^31 - 1 at a time", codes.rows);
  if (codes.rows > 0 && codes.offsets[0] != 0) fail("sparse codes: the offsets start at {}, not at 0", codes.offsets[0]);
  for (int64_t row = 0; row < codes.rows; ++row) {
    const int64_t begin = codes.offsets[row], end = codes.offsets[row + 1];
    if (end < begin) fail("sparse codes: the offsets fall from {} to {} at row {}", begin, end, row);
    for (int64_t entry = begin; entry < end; ++entry)
      if (codes.atoms[entry] < 0 || codes.atoms[entry] >= size)
        fail("sparse codes: atom {} in row {}, but the dictionary has {}", codes.atoms[entry], row, size);
  }
}

CodeColumns columns_of(const CodeRows& codes, int64_t size) {
  check_codes(codes, size);
  const int64_t entries = codes.entries();
  CodeColumns columns{std::vector<int64_t>(size + 1), std::vector<int32_t>(entries), std::vector<int64_t>(entries)};
  for (int64_t entry = 0; entry < entries; ++entry) ++columns.offsets[codes.atoms[entry] + 1];
  for (int64_t atom = 0; atom < size; ++atom) columns.offsets[atom + 1] += columns.offsets[atom];
  std::vector<int64_t> next(columns.offsets.begin(), columns.offsets.end() - 1);
  for (int64_t row = 0; row < codes.rows; ++row) {
    for (int64_t entry = codes.offsets[row]; entry < codes.offsets[row + 1]; ++entry) {
      const int64_t place = next[codes.atoms[entry]]++;
      columns.rows[place] = static_cast<int32_t>(row);
      columns.entries[place] = entry;
    }
  }
  return columns;
}

}  // namespace sememe::kernels
