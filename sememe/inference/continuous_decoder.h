#pragma once
// Many texts at once: each pass decodes a token of every text that is under way and reads prompts of texts that begin, so that weights are read once
// for all of them. A text gets the tokens that it would get alone.

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "sememe/inference/quantized_transformer.h"
#include "sememe/inference/sampling.h"

namespace sememe {

class ContinuousDecoder {
 public:
  /// Gets each new token. @return whether the text goes on
  using OnToken = std::function<bool(int32_t id)>;

  /// @param slots most texts that are under way at once, at least 1; each has a cache of its own
  /// @param vocabulary ids of it and above are never drawn; a head may have more rows than there are tokens
  /// @param tokens_of_pass most tokens that a pass reads, at least `slots`; longer prompts take several
  /// @throws UsageError if they cannot be
  ContinuousDecoder(QuantizedTransformer& engine, int64_t slots, int64_t vocabulary, int64_t tokens_of_pass = 512);

  /// Adds a text to those that wait. @param prompt at least one token
  /// @throws Error if the prompt does not fit the context or an id is none
  void add(std::vector<int32_t> prompt, Sampler sampler, OnToken on_token);
  /// One pass. A text ends when its callback says so or its context is full. @return whether a text is under way or waits
  /// @throws as QuantizedTransformer::forward(), or as a callback does
  bool step();

 private:
  struct Text {
    std::vector<int32_t> ids;  ///< not read yet: of the prompt, or the last token
    size_t read = 0;
    Sampler sampler;
    OnToken on_token;
    TokenCache cache;
  };
  QuantizedTransformer& engine_;
  size_t slots_;
  int64_t vocabulary_, tokens_of_pass_;
  std::deque<Text> waiting_;
  std::vector<Text> under_way_;
  std::vector<TokenCache> free_;  ///< caches of texts that ended
};

}  // namespace sememe
