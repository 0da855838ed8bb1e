#pragma once
// Documents as batches of token contexts. A context holds text of one document only: it begins with the end-of-text token, which
// stands for "a document starts or goes on here", and a document longer than the context is cut into several. Contexts of an encoder
// begin and end as its tokenizer says, such as with [CLS] and [SEP].

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "sememe/data/corpus.h"
#include "sememe/network/network.h"
#include "sememe/text/tokenizer.h"

namespace sememe {

/// Who reads the contexts.
enum class ContextReader { kDecoder, kEncoder };

/// Some contexts of similar length, padded on the right to the longest: with end-of-text, since a causal network needs no mask, as what
/// stands behind a token cannot reach it; for an encoder with Encoder::kPadding.
struct TokenBatch {
  torch::Tensor tokens;   ///< [batch, length] int64, the first column is what opens a context
  torch::Tensor targets;  ///< [batch, length] int64, the next token, -100 where nothing is to be predicted: everywhere of an encoder
  torch::Tensor valid;    ///< [batch, length] bool: tokens of the text (neither what stands around it nor padding)
  int64_t valid_tokens = 0;

  Batch batch() const { return {tokens, targets}; }
};

/// A corpus as TokenBatches, each text token valid in exactly one context. The order is fixed by the corpus and the sizes: batch
/// number i is always the same, so that a capture can go on after the batches it has.
class TokenContexts {
 public:
  /// @param context      longest context, with what stands around the text; at least 2, of an encoder 3
  /// @param batch_tokens most tokens in a batch, padding included; at least `context`
  /// @param overlap      tokens before a cut that the next context repeats (not valid there, not targets), 0 .. context - 2
  /// @param reader       an encoder's tokenizer has a closing()
  TokenContexts(std::unique_ptr<Corpus> corpus, const Tokenizer& tokenizer, int64_t context, int64_t batch_tokens,
                int64_t overlap = 0, ContextReader reader = ContextReader::kDecoder);

  /// The next batch, or nothing at the end of the corpus.
  std::optional<TokenBatch> next();
  /// Passes over `batches` batches without making their tensors. @throws Error if there are fewer
  void skip(int64_t batches);

 private:
  struct Row {
    std::vector<int32_t> tokens;  // what opens a context, text, what closes it
    size_t known = 0;             // how many text tokens at the start an earlier context had already
  };
  using Rows = std::vector<Row>;

  std::optional<Rows> next_rows();
  void read_window();
  void cut(const std::vector<int32_t>& document, Rows& rows) const;

  std::unique_ptr<Corpus> corpus_;
  Tokenizer tokenizer_;
  int64_t context_, batch_tokens_, overlap_;
  int32_t opening_;
  std::optional<int32_t> closing_;  // of an encoder
  uint64_t windows_ = 0;
  std::vector<Rows> batches_;  // of the window read last; the next one stands at the end
};

}  // namespace sememe
