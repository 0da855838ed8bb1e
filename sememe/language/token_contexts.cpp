#include "sememe/language/token_contexts.h"

#include <algorithm>

#include "sememe/base/error.h"
#include "sememe/base/random.h"
#include "sememe/language/encoder.h"

namespace sememe {

TokenContexts::TokenContexts(std::unique_ptr<Corpus> corpus, const Tokenizer& tokenizer, int64_t context,
                             int64_t batch_tokens, int64_t overlap, ContextReader reader)
    : corpus_(std::move(corpus)),
      tokenizer_(tokenizer),
      context_(context),
      batch_tokens_(batch_tokens),
      overlap_(overlap),
      opening_(tokenizer.opening()),
      closing_(reader == ContextReader::kEncoder ? tokenizer.closing() : std::nullopt) {
  const int64_t least = reader == ContextReader::kEncoder ? 3 : 2;
  if (context < least) fail_usage("a context of {} tokens is too short; give at least {}", context, least);
  if (batch_tokens < context) fail_usage("a batch of {} tokens does not hold one context of {}", batch_tokens, context);
  if (overlap < 0 || overlap > context - 2) fail_usage("an overlap of {} does not fit a context of {}", overlap, context);
}

void TokenContexts::cut(const std::vector<int32_t>& document, Rows& rows) const {
  const size_t longest = context_ - (closing_ ? 2 : 1);
  for (size_t begin = 0; begin < document.size();) {
    const size_t known = begin == 0 ? 0 : overlap_;
    const size_t end = std::min(document.size(), begin + longest - known);
    Row row;
    row.known = known;
    row.tokens.reserve(end - begin + known + 2);
    row.tokens.push_back(opening_);
    row.tokens.insert(row.tokens.end(), document.begin() + (begin - known), document.begin() + end);
    if (closing_) row.tokens.push_back(*closing_);
    rows.push_back(std::move(row));
    begin = end;
  }
}

void TokenContexts::read_window() {
  // Sorting by length within a window of many batches keeps padding at a few percent, whatever the lengths of the documents.
  constexpr int64_t window_batches = 64;
  Rows rows;
  for (int64_t tokens = 0; tokens < window_batches * batch_tokens_;) {
    const std::optional<Document> document = corpus_->next();
    if (!document) break;
    const std::vector<int32_t> ids = tokenizer_.encode(document->text);
    cut(ids, rows);
    tokens += static_cast<int64_t>(ids.size());
  }
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.tokens.size() < b.tokens.size(); });
  Rows batch;
  std::vector<Rows> batches;
  for (Row& row : rows) {
    if (static_cast<int64_t>((batch.size() + 1) * row.tokens.size()) > batch_tokens_) batches.push_back(std::exchange(batch, {}));
    batch.push_back(std::move(row));
  }
  if (!batch.empty()) batches.push_back(std::move(batch));
  // In random order, so that the first tokens of a corpus are not its shortest documents only.
  RandomStream order(0, fmt::format("contexts/{}", windows_++));
  for (const int64_t index : permutation(static_cast<int64_t>(batches.size()), order))
    batches_.push_back(std::move(batches[index]));
}

std::optional<TokenContexts::Rows> TokenContexts::next_rows() {
  if (batches_.empty()) read_window();
  if (batches_.empty()) return std::nullopt;
  Rows rows = std::move(batches_.back());
  batches_.pop_back();
  return rows;
}

std::optional<TokenBatch> TokenContexts::next() {
  const std::optional<Rows> rows = next_rows();
  if (!rows) return std::nullopt;
  const auto count = static_cast<int64_t>(rows->size()), length = static_cast<int64_t>(rows->back().tokens.size());
  TokenBatch batch;
  batch.tokens = torch::full({count, length}, closing_ ? Encoder::kPadding : opening_, torch::kInt64);
  batch.targets = torch::full({count, length}, -100, torch::kInt64);
  batch.valid = torch::zeros({count, length}, torch::kBool);
  int64_t* const tokens = batch.tokens.mutable_data_ptr<int64_t>();
  int64_t* const targets = batch.targets.mutable_data_ptr<int64_t>();
  bool* const valid = batch.valid.mutable_data_ptr<bool>();
  for (int64_t i = 0; i < count; ++i) {
    const Row& row = (*rows)[i];
    std::copy(row.tokens.begin(), row.tokens.end(), tokens + i * length);
    for (size_t t = row.known + 1; t < row.tokens.size() - (closing_ ? 1 : 0); ++t) {
      if (!closing_) targets[i * length + static_cast<int64_t>(t) - 1] = row.tokens[t];
      valid[i * length + static_cast<int64_t>(t)] = true;
      ++batch.valid_tokens;
    }
  }
  return batch;
}

void TokenContexts::skip(int64_t batches) {
  for (int64_t i = 0; i < batches; ++i)
    if (!next_rows()) fail("the text has only {} batches, {} were to be passed over; is it the same file as before?", i, batches);
}

}  // namespace sememe
