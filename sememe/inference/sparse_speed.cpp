#include "sememe/inference/sparse_speed.h"

#include <algorithm>
#include <chrono>

namespace sememe {
namespace {

using Clock = std::chrono::steady_clock;

template <class Work>
double seconds_of(const Work& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Greedy. @param step from a run of one token to its logits
template <class Step>
double decoding_rate(TokenCache& cache, int64_t tokens, const Step& step) {
  std::vector<int32_t> next{1};
  const auto one = [&] {
    const std::span<const float> logits = step(TokenRun{next, &cache});
    next[0] = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  };
  one();
  const double seconds = seconds_of([&] {
    for (int64_t i = 0; i < tokens; ++i) one();
  });
  return static_cast<double>(tokens) / seconds;
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values.at(middle) : (values.at(middle - 1) + values.at(middle)) / 2;
}

double SparseSpeed::ratio() const { return median(rates) / median(dense_rates); }

double SparseSpeed::choice_in_tokens() const { return (median(choosing_prompt_seconds) - median(prompt_seconds)) * median(dense_rates); }

SparseSpeed measure_speed(QuantizedTransformer& engine, SparseDecoder& decoder, int64_t prompt, int64_t tokens, int64_t rounds) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < prompt; ++i) ids.push_back(static_cast<int32_t>((1000 + 37 * i) % engine.config().vocabulary));
  SparseSpeed speed;
  for (int64_t round = 0; round <= rounds; ++round) {
    TokenCache cache(engine.config());
    const TokenRun reading{ids, &cache};
    const double plain = seconds_of([&] { engine.forward({&reading, 1}); });
    const double dense_rate = decoding_rate(cache, tokens, [&](const TokenRun& run) { return engine.forward({&run, 1}); });
    cache.set_tokens(0);
    const double choosing = seconds_of([&] { decoder.read({&reading, 1}); });
    const double choice = decoder.seconds();
    const double rate = decoding_rate(cache, tokens, [&](const TokenRun& run) { return decoder.decode({&run, 1}); });
    if (round == 0) continue;
    speed.prompt_seconds.push_back(plain), speed.choosing_prompt_seconds.push_back(choosing), speed.choice_seconds.push_back(choice);
    speed.dense_rates.push_back(dense_rate), speed.rates.push_back(rate);
  }
  return speed;
}

}  // namespace sememe
