#pragma once
// A decoder-only transformer that runs on the weights of a GGUF file in the file's own precision, on the CPU, without LibTorch: the other
// execution of the description in sememe/families, with the same sites as sememe/language's.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sememe/families/family.h"
#include "sememe/formats/gguf.h"
#include "sememe/inference/panel_matrix.h"
#include "sememe/inference/thread_team.h"
#include "sememe/inference/token_cache.h"

namespace sememe {

/// Reads or changes the activations at sites as they pass by.
class RowVisitor {
 public:
  virtual ~RowVisitor() = default;
  /// Whether `visit` is to be called at sites()[site]; asked on any thread.
  virtual bool wants(size_t site) const = 0;
  /// @param rows [tokens, width], those of all sequences of the pass, one behind the other; what is written there flows on
  virtual void visit(size_t site, float* rows, int64_t tokens, int64_t width) = 0;
  /// True once nothing after this site is wanted: the pass then ends without logits.
  virtual bool finished() const { return false; }
};

/// New tokens of one sequence and what came before them.
struct TokenRun {
  std::span<const int32_t> ids;  ///< at least one
  TokenCache* cache;             ///< extended by them; each run of a pass has its own
};

enum class LogitsOf { kLastTokens, kAllTokens };

class QuantizedTransformer {
 public:
  struct Site {
    std::string name;
    int64_t width;
  };

  /// Maps the file and repacks its weights, on `threads` threads.
  /// @throws Error naming the file and the key, tensor or feature that is missing, malformed or not supported
  QuantizedTransformer(const std::filesystem::path& path, int threads);
  ~QuantizedTransformer();

  const TransformerConfig& config() const { return config_; }
  const GgufFile& file() const { return file_; }
  /// As Transformer's: "embedding", then "blocks.i.attention", "blocks.i.mlp.input", "blocks.i.mlp.act", "blocks.i.mlp" and "blocks.i.output" of each
  /// block, and "norm".
  const std::vector<Site>& sites() const { return sites_; }
  /// Bytes of the repacked weights, which decoding one token reads once.
  int64_t weight_bytes() const { return weight_bytes_; }

  /// The output matrix [vocabulary, width] and the last norm's weights [width], in float32.
  std::vector<float> head_weights() const;
  const std::vector<float>& norm_weights() const { return norm_; }

  /// Runs new tokens of one or more sequences. Activations are quantised to bytes in blocks of 32 where weights are; sums are float32. Rows do not
  /// depend on each other but through the caches, so what else runs in the pass changes nothing.
  /// @return logits [sequences, vocabulary] of each run's last token, or [all tokens, vocabulary]; empty if the visitor finished first. They stay
  ///         until the next pass.
  /// @throws Error if an id is none, a context would grow too long, a logit is not finite, or as the visitor does
  std::span<const float> forward(std::span<const TokenRun> runs, LogitsOf wanted = LogitsOf::kLastTokens, RowVisitor* visitor = nullptr);

 private:
  struct Block;
  class Pass;
  void load_block(int64_t layer, PanelMemory& memory);
  void extend_rotation(int64_t tokens);

  GgufFile file_;
  TransformerConfig config_;
  std::vector<Site> sites_;
  std::unique_ptr<PanelMemory> memory_;
  std::vector<Block> blocks_;
  const GgufTensor *embedding_ = nullptr, *head_tensor_ = nullptr;
  std::vector<float> norm_;
  std::optional<PanelMatrix> head_;
  int64_t weight_bytes_ = 0;
  struct Rotation {
    std::vector<double> frequencies;
    std::vector<float> cosines, sines;  ///< [tokens, rotated_width / 2]
  };
  Rotation rotations_[2];  ///< of global layers, of local ones
  int64_t rotated_tokens_ = 0;
  ThreadTeam team_;
  std::unique_ptr<Pass> pass_;
};

}  // namespace sememe
