#pragma once
// One pass of new tokens through a transformer's weights on a team of threads: the engine's steps and their buffers.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sememe/inference/matrix_inputs.h"
#include "sememe/inference/neuron_subset.h"
#include "sememe/inference/thread_team.h"
#include "sememe/inference/token_cache.h"
#include "sememe/inference/transformer_weights.h"

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

/// Who looks at a pass or leaves out a part of it; any may be null.
struct PassWatchers {
  RowVisitor* sites = nullptr;
  NeuronSubset* subset = nullptr;  ///< the neurons that take part
  InputVisitor* inputs = nullptr;  ///< sees the inputs of matrices, of "mlp.act" behind the subset and before the site's visitor
};

/// New tokens of one sequence and what came before them.
struct TokenRun {
  std::span<const int32_t> ids;  ///< at least one
  TokenCache* cache;             ///< extended by them; each run of a pass has its own
};

enum class LogitsOf { kLastTokens, kAllTokens };

struct TransformerSite {
  std::string name;
  int64_t width;
};

class TransformerPass {
 public:
  TransformerPass(TransformerWeights& weights, ThreadTeam& team);
  ~TransformerPass();

  /// As QuantizedTransformer::forward().
  std::span<const float> run(std::span<const TokenRun> runs, LogitsOf wanted, const PassWatchers& watchers);

  /// "embedding", then "blocks.i.attention", "blocks.i.mlp.input", "blocks.i.mlp.act", "blocks.i.mlp" and "blocks.i.output" of each block, and "norm".
  static std::vector<TransformerSite> sites(const TransformerConfig& config);

 private:
  class Steps;
  std::unique_ptr<Steps> steps_;
};

}  // namespace sememe
