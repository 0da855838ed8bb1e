#pragma once
// Rows of floats as 8-bit whole numbers with a scale for each 32 of them: what products with quantised weights take. A block is q = round(x / s)
// with s = max |x| / 127 (the rule of ggml's Q8_0, which keeps s in float16; here it is float32).

#include <cstdint>
#include <vector>

namespace sememe::kernels {

struct QuantizedRows {
  static constexpr int64_t kBlock = 32, kHalf = 16;

  int64_t width = 0;            ///< a multiple of 32
  std::vector<int8_t> codes;    ///< [rows, width]
  std::vector<float> scales;    ///< [rows, width / 32]; NaN for a block with a value that is not finite
  std::vector<int32_t> sums;    ///< [rows, width / 16], of the codes

  /// Makes room; what is there stays while there is room already.
  void resize(int64_t rows, int64_t width);
};

/// Fills block `first` to `last` of row `row`; blocks are independent of each other.
/// @param values [width], the whole row
void quantize_blocks(const float* values, int64_t row, int64_t first, int64_t last, QuantizedRows& rows);
void quantize_blocks_reference(const float* values, int64_t row, int64_t first, int64_t last, QuantizedRows& rows);

}  // namespace sememe::kernels
