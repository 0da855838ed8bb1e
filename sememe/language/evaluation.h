#pragma once
// How well a language model predicts a text.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "sememe/data/corpus.h"
#include "sememe/language/language_model.h"

namespace sememe {

struct TextLoss {
  double nats = 0;     ///< summed over the tokens
  int64_t tokens = 0;  ///< each token of the text once; separators between documents are not counted
  int64_t bytes = 0;   ///< of those tokens
  double nats_per_token() const { return nats / static_cast<double>(tokens); }
  double perplexity() const;
  double bits_per_byte() const;
};

/// The loss over all documents of a text. A document longer than the context is read in contexts that overlap by half, so that each token
/// after the first context is predicted from at least half a context.
/// @param max_tokens stop after the batch that reaches it; 0 reads all
/// @param visitor    sees each pass, which holds whole contexts; none unless given
/// @throws Error if the text has no tokens
TextLoss evaluate(const LanguageModel& model, std::unique_ptr<Corpus> corpus, int64_t batch_tokens = 8192,
                  int64_t max_tokens = 0, SiteVisitor* visitor = nullptr);

/// Bits that an interpolated Kneser-Ney 5-gram of the training ids (documents with end-of-text before each) needs for all documents of
/// a text: the baseline for TextLoss over the same text and tokenizer.
double kneser_ney_bits(std::span<const int32_t> training_ids, const Tokenizer& tokenizer, Corpus& corpus);

}  // namespace sememe
