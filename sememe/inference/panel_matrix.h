#pragma once
// A weight matrix repacked into panels (kernels/panels.h) in its file's own precision, parts of it (kernels/chosen_panels.h), and their products.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "sememe/formats/gguf.h"
#include "sememe/kernels/chosen_panels.h"
#include "sememe/kernels/panels.h"

namespace sememe {

/// Memory of one size for many matrices, in the order in which they are read, on large pages where the system has them.
class PanelMemory {
 public:
  /// @throws Error if there is not so much
  explicit PanelMemory(int64_t bytes);
  ~PanelMemory();
  PanelMemory(const PanelMemory&) = delete;
  PanelMemory& operator=(const PanelMemory&) = delete;

  /// The next `bytes`, at a multiple of 64.
  uint8_t* take(int64_t bytes);
  /// All of it may be taken again.
  void clear() { taken_ = 0; }
  int64_t bytes() const { return bytes_; }
  static int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  uint8_t* begin_;
  int64_t bytes_, taken_ = 0;
};

/// Rows of activations, [tokens, width], as floats and, where a product wants them so, as bytes.
struct Activations {
  const float* values;
  const kernels::QuantizedRows* quantized;
};

class PanelMatrix {
 public:
  /// Bytes that the matrix will take. @throws Error naming the tensor if its type or shape cannot be multiplied
  static int64_t bytes(const GgufTensor& tensor);
  /// Repacks a tensor [rows, width] on the pool's threads.
  /// @throws Error naming the tensor if a scale or weight is not finite
  PanelMatrix(const GgufTensor& tensor, PanelMemory& memory);
  /// Room for `rows` rows of another matrix, which gather_rows() fills.
  PanelMatrix(const PanelMatrix& whole, int64_t rows, PanelMemory& memory);
  static int64_t bytes(const PanelMatrix& whole, int64_t rows);

  /// Fills panels first <= p < last with the whole matrix's rows `rows`.
  void gather_rows(const PanelMatrix& whole, std::span<const int32_t> rows, int64_t first, int64_t last);

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  int64_t panels() const { return panels_; }
  /// Whether products take activations as bytes.
  bool quantized() const { return layout_.has_value(); }

  /// out[t * stride + i] = row 16 first + i . activations t, for the rows of panels first <= p < last, the padding of the last one included, and
  /// tokens t < `tokens`.
  void multiply(const Activations& x, int64_t first, int64_t last, int64_t tokens, float* out, int64_t stride) const;

 private:
  friend class ColumnMatrix;
  int64_t rows_, width_, panels_, panel_bytes_;
  std::optional<kernels::PanelLayout> layout_;
  kernels::PanelFloats floats_ = kernels::PanelFloats::kFloat32;
  uint8_t* data_;
};

/// Some columns of a matrix.
class ColumnMatrix {
 public:
  /// Room for the columns, ascending, which gather() fills.
  ColumnMatrix(const PanelMatrix& whole, std::span<const int32_t> columns, PanelMemory& memory);
  static int64_t bytes(const PanelMatrix& whole, std::span<const int32_t> columns);

  int64_t rows() const { return rows_; }
  int64_t panels() const { return panels_; }
  bool quantized() const { return quantized_; }
  /// What activations are taken at, for products with bytes.
  const kernels::ChosenColumns& columns() const { return columns_; }

  /// Fills panels first <= p < last.
  void gather(const PanelMatrix& whole, int64_t first, int64_t last);
  /// out[16 p + r] for panels first <= p < last of the product with one row of activations.
  /// @param values at the columns, for weights that are floats
  /// @param taken at the columns, for others
  void multiply(const float* values, const kernels::ChosenActivations& taken, int64_t first, int64_t last, float* out) const;

 private:
  int64_t rows_, panels_, panel_bytes_;
  bool quantized_;
  kernels::ChosenColumns columns_;
  std::vector<int32_t> float_columns_;
  kernels::PanelFloats floats_;
  uint8_t* data_;
};

}  // namespace sememe
