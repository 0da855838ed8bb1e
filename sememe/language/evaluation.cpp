#include "sememe/language/evaluation.h"

#include <algorithm>
#include <cmath>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"
#include "sememe/base/progress.h"
#include "sememe/language/kneser_ney.h"
#include "sememe/language/token_contexts.h"

namespace sememe {

double TextLoss::perplexity() const { return std::exp(nats_per_token()); }

double TextLoss::bits_per_byte() const { return nats / std::log(2.0) / static_cast<double>(bytes); }

TextLoss evaluate(const LanguageModel& model, std::unique_ptr<Corpus> corpus, int64_t batch_tokens, int64_t max_tokens,
                  SiteVisitor* visitor) {
  torch::NoGradGuard no_grad;
  const int64_t context = model.text_context();
  const torch::Device device = model.network->device();
  // Logits of large vocabularies take the memory: 2^27 are half a gigabyte.
  const int64_t batch = std::min({batch_tokens, model.network->pass_tokens(), (int64_t{1} << 27) / model.network->config().vocabulary});
  TokenContexts contexts(std::move(corpus), model.tokenizer, context, std::max(batch, context), (context - 1) / 2);
  std::vector<int64_t> token_bytes(model.tokenizer.size());
  for (size_t id = 0; id < token_bytes.size(); ++id)
    token_bytes[id] = static_cast<int64_t>(model.tokenizer.token(static_cast<int32_t>(id)).size());
  const torch::Tensor bytes_of = torch::tensor(token_bytes, torch::kInt64);
  TextLoss total;
  Progress progress("evaluate", max_tokens, "tokens");
  while (const std::optional<TokenBatch> batch = contexts.next()) {
    const Batch inputs{batch->tokens.to(device), batch->targets.to(device)};
    NoVisitor nobody;
    const torch::Tensor logits = model.network->forward(inputs, visitor == nullptr ? nobody : *visitor);
    total.nats += model.network->loss(logits, inputs).item<double>() * static_cast<double>(batch->valid_tokens);
    total.tokens += batch->valid_tokens;
    total.bytes += bytes_of.index_select(0, batch->tokens.masked_select(batch->valid)).sum().item<int64_t>();
    progress.update(total.tokens);
    if (interrupted()) throw Interrupted("stopped while evaluating; nothing was written");
    if (max_tokens > 0 && total.tokens >= max_tokens) break;
  }
  if (total.tokens == 0) fail("the text has no tokens to evaluate on; give a longer one");
  if (!std::isfinite(total.nats))
    fail("{}: the loss on the text is not finite; are the weights damaged{}?", model.folder.string(),
         visitor == nullptr ? "" : " or is the intervention too strong");
  return total;
}

double kneser_ney_bits(std::span<const int32_t> training_ids, const Tokenizer& tokenizer, Corpus& corpus) {
  const KneserNey ngrams(training_ids, tokenizer.end_of_text(), tokenizer.size(), 5);
  double bits = 0;
  while (const std::optional<Document> document = corpus.next()) bits += ngrams.bits(tokenizer.encode(document->text));
  return bits;
}

}  // namespace sememe
