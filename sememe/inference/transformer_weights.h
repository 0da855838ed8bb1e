#pragma once
// A decoder-only transformer's weights as the engine multiplies by them.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "sememe/families/transformer_config.h"
#include "sememe/inference/panel_matrix.h"
#include "sememe/inference/weight_source.h"

namespace sememe {

/// Of a norm; `bias` is empty for RMS norms, both where the network has none.
struct NormWeights {
  std::vector<float> weight, bias;
  bool empty() const { return weight.empty(); }
};

struct BlockWeights {
  NormWeights attention_norm, attention_post_norm, mlp_norm, mlp_post_norm;
  std::vector<float> query_norm, key_norm;
  std::vector<float> query_bias, key_bias, value_bias, output_bias, gate_bias, up_bias, down_bias;
  std::optional<PanelMatrix> query, key, value, output, gate, up, down;
  bool local = false;
};

/// Angles of rotary positions.
struct Rotation {
  std::vector<double> frequencies;
  double magnitude = 1;
  std::vector<float> cosines, sines;  ///< [tokens, frequencies], times the magnitude
};

class TransformerWeights {
 public:
  /// Maps the files and repacks what is in them.
  /// @throws Error naming the file and the key, tensor or feature that is missing, malformed or not supported
  explicit TransformerWeights(const std::filesystem::path& path);

  const TransformerConfig& config() const { return source_.config(); }
  const WeightSource& source() const { return source_; }
  /// Of the repacked matrices.
  int64_t bytes() const { return bytes_; }
  /// Puts a token's embedding, scaled, and its learned position into `row` [width].
  void embed(int32_t id, int64_t position, float* row) const;
  /// The output matrix [vocabulary, width] in float32.
  std::vector<float> head_weights() const;
  /// Makes the rotations of the first `tokens` positions.
  void extend_rotations(int64_t tokens);

  std::vector<BlockWeights> blocks;
  NormWeights norm;
  std::optional<PanelMatrix> head;
  std::vector<float> head_bias;
  Rotation rotations[2];  ///< of global layers, of local ones

 private:
  WeightSource source_;
  std::unique_ptr<PanelMemory> memory_;
  int64_t bytes_ = 0, rotated_tokens_ = 0;
  std::vector<std::byte> embedding_room_;
  GgufTensor embedding_;
  std::vector<float> positions_;  ///< [rows, width], if learned
};

}  // namespace sememe
