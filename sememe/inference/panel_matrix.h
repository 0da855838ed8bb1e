#pragma once
// A weight matrix of a GGUF file, repacked into panels (kernels/panels.h) in the file's own precision, and its products.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "sememe/formats/gguf.h"
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
  /// @param source row of the tensor that row i of the matrix is; null for the same
  /// @throws Error naming the tensor if a scale or weight is not finite
  PanelMatrix(const GgufTensor& tensor, PanelMemory& memory, const std::function<int64_t(int64_t)>& source = {});

  int64_t rows() const { return rows_; }
  int64_t width() const { return width_; }
  int64_t panels() const { return panels_; }
  /// Whether products take activations as bytes.
  bool quantized() const { return layout_.has_value(); }

  /// out[t * stride + i] = row 16 first + i . activations t, for the rows of panels first <= p < last, the padding of the last one included, and
  /// tokens t < `tokens`.
  void multiply(const Activations& x, int64_t first, int64_t last, int64_t tokens, float* out, int64_t stride) const;

 private:
  int64_t rows_, width_, panels_, panel_bytes_;
  std::optional<kernels::PanelLayout> layout_;
  kernels::PanelFloats floats_ = kernels::PanelFloats::kFloat32;
  uint8_t* data_;
};

}  // namespace sememe
