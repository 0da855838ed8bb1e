#pragma once
// What a block's matrices are about to be multiplied by, for whoever counts it or leaves a part of it out.

#include <cstdint>

namespace sememe {

enum class MatrixInput : int {
  kAttention,        ///< of queries, keys and values: the stream behind the attention's norm
  kAttentionOutput,  ///< the heads' mixed values
  kMlp,              ///< of gate and up: the stream behind the MLP's norm
  kMlpDown           ///< the MLP's hidden activations
};
inline constexpr int kMatrixInputs = 4;

/// Rows of one pass, those of all its sequences one behind the other.
struct InputRows {
  int64_t layer;
  MatrixInput input;
  float* values;  ///< row t begins at t * stride
  int64_t tokens, width, stride;
  const float* gate = nullptr;       ///< of kMlpDown where a matrix gates the MLP: what it gives, before the activation function; as values
  const float* mlp_input = nullptr;  ///< of kMlpDown: [tokens, mlp_width], what kMlp showed
  int64_t mlp_width = 0;
};

class InputVisitor {
 public:
  virtual ~InputVisitor() = default;
  /// Whether `visit` is to be called there. Asked on any thread; all must get the same answer.
  virtual bool wants(int64_t layer, MatrixInput input) const = 0;
  /// Called on every thread of the team, each with its own share of the tokens. What it writes to its rows flows on, and what is zero there counts
  /// as left out. Must not throw.
  /// @param thread which one of `threads`
  virtual void visit(const InputRows& rows, int64_t first, int64_t last, int thread, int threads) = 0;
};

}  // namespace sememe
