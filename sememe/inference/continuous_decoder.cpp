#include "sememe/inference/continuous_decoder.h"

#include <algorithm>
#include <utility>

#include "sememe/base/error.h"

namespace sememe {

ContinuousDecoder::ContinuousDecoder(QuantizedTransformer& engine, int64_t slots, int64_t vocabulary, int64_t tokens_of_pass)
    : engine_(engine), slots_(static_cast<size_t>(slots)), vocabulary_(vocabulary), tokens_of_pass_(tokens_of_pass) {
  if (slots < 1) fail_usage("the number of texts at once is {}; it must be at least 1", slots);
  if (tokens_of_pass < slots) fail_usage("{} tokens a pass are fewer than {} texts at once", tokens_of_pass, slots);
}

void ContinuousDecoder::add(std::vector<int32_t> prompt, Sampler sampler, OnToken on_token) {
  const TransformerConfig& config = engine_.config();
  if (prompt.empty()) fail("a prompt is empty");
  if (static_cast<int64_t>(prompt.size()) > config.context)
    fail("the prompt has {} tokens but the model's context is {}; give a shorter one", prompt.size(), config.context);
  for (const int32_t id : prompt)
    if (id < 0 || id >= config.vocabulary) fail("token {} does not exist: the model has ids 0 to {}", id, config.vocabulary - 1);
  waiting_.push_back({std::move(prompt), 0, std::move(sampler), std::move(on_token), TokenCache(config)});
}

bool ContinuousDecoder::step() {
  while (under_way_.size() < slots_ && !waiting_.empty()) {
    Text& text = under_way_.emplace_back(std::move(waiting_.front()));
    waiting_.pop_front();
    if (free_.empty()) continue;
    text.cache = std::move(free_.back());
    text.cache.set_tokens(0);
    free_.pop_back();
  }
  if (under_way_.empty()) return false;
  // Each has its share at least; what single tokens leave over goes to prompts, the oldest first.
  std::vector<TokenRun> runs;
  auto left = tokens_of_pass_ - static_cast<int64_t>(under_way_.size());
  for (Text& text : under_way_) {
    const int64_t wanted = static_cast<int64_t>(text.ids.size() - text.read) - 1, more = std::min(wanted, left);
    left -= more;
    runs.push_back({std::span<const int32_t>(text.ids).subspan(text.read, 1 + more), &text.cache});
    text.read += 1 + more;
  }
  const std::span<const float> logits = engine_.forward(runs);
  const int64_t vocabulary = engine_.config().vocabulary;
  std::vector<Text> going_on;
  for (size_t i = 0; i < under_way_.size(); ++i) {
    Text& text = under_way_[i];
    bool goes_on = true;
    if (text.read == text.ids.size()) {
      const int32_t id = text.sampler.draw(logits.subspan(i * vocabulary, vocabulary_));
      goes_on = text.on_token(id) && text.cache.tokens() < engine_.config().context;
      text.ids = {id}, text.read = 0;
    }
    if (goes_on)
      going_on.push_back(std::move(text));
    else
      free_.push_back(std::move(text.cache));
  }
  under_way_ = std::move(going_on);
  return !under_way_.empty() || !waiting_.empty();
}

}  // namespace sememe
