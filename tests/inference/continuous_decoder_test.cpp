#include "sememe/inference/continuous_decoder.h"

#include <gtest/gtest.h>

#include "tests/formats/error_text.h"
#include "tests/inference/small_gguf.h"

namespace sememe {
namespace {

std::vector<int32_t> some_ids(int64_t count, int32_t first) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((first + 37 * i) % 257));
  return ids;
}

Sampler sampler(size_t text) { return Sampler({.temperature = 1.0}, 1, fmt::format("text/{}", text)); }

/// Each prompt alone, token by token.
std::vector<int32_t> alone(QuantizedTransformer& engine, const std::vector<int32_t>& prompt, size_t text, size_t tokens) {
  TokenCache cache(engine.config());
  Sampler draws = sampler(text);
  std::vector<int32_t> next = prompt, found;
  while (found.size() < tokens && cache.tokens() < engine.config().context) {
    const TokenRun run{next, &cache};
    found.push_back(draws.draw(engine.forward({&run, 1})));
    next = {found.back()};
  }
  return found;
}

TEST(ContinuousDecoder, EachTextIsAsIfAloneHoweverManyThereAreAndHoweverPromptsAreCut) {
  const SmallGgufFile file({.type = GgmlType::kQ4_0});
  QuantizedTransformer engine(file.path(), 2);
  std::vector<std::vector<int32_t>> prompts, wanted;
  const size_t lengths[] = {3, 20, 1, 41, 7, 64, 2};
  for (size_t i = 0; i < std::size(lengths); ++i) {
    prompts.push_back(some_ids(static_cast<int64_t>(lengths[i]), static_cast<int32_t>(31 * i)));
    wanted.push_back(alone(engine, prompts[i], i, 5 + 3 * i));
  }
  EXPECT_EQ(wanted[5].size(), 1u) << "its prompt fills the context";
  for (const int64_t slots : {1, 2, 3, 20})
    for (const int64_t tokens : {slots, slots + 5, int64_t{512}}) {
      ContinuousDecoder decoder(engine, slots, 257, tokens);
      std::vector<std::vector<int32_t>> found(prompts.size());
      for (size_t i = 0; i < prompts.size(); ++i)
        decoder.add(prompts[i], sampler(i), [&found, i](int32_t id) {
          found[i].push_back(id);
          return found[i].size() < 5 + 3 * i;
        });
      while (decoder.step()) {
      }
      EXPECT_EQ(found, wanted) << slots << " at once, " << tokens << " tokens a pass";
      EXPECT_FALSE(decoder.step());
    }
}

TEST(ContinuousDecoder, ATextMayBeginWhileOthersGoOn) {
  const SmallGgufFile file({.type = GgmlType::kQ8_0});
  QuantizedTransformer engine(file.path(), 2);
  const std::vector<int32_t> first = some_ids(5, 1), second = some_ids(9, 100);
  ContinuousDecoder decoder(engine, 2, 257);
  std::vector<int32_t> found[2];
  decoder.add(first, sampler(0), [&](int32_t id) { return found[0].push_back(id), found[0].size() < 8; });
  for (int i = 0; i < 3; ++i) decoder.step();
  decoder.add(second, sampler(1), [&](int32_t id) { return found[1].push_back(id), found[1].size() < 8; });
  while (decoder.step()) {
  }
  EXPECT_EQ(found[0], alone(engine, first, 0, 8));
  EXPECT_EQ(found[1], alone(engine, second, 1, 8));
}

TEST(ContinuousDecoder, WhatCannotBeIsRefused) {
  const SmallGgufFile file({});
  QuantizedTransformer engine(file.path(), 1);
  EXPECT_TRUE(contains(error_from([&] { ContinuousDecoder(engine, 0, 257); }), {"0", "at least 1"}));
  EXPECT_TRUE(contains(error_from([&] { ContinuousDecoder(engine, 9, 257, 8); }), {"8", "9"}));
  ContinuousDecoder decoder(engine, 1, 257);
  const auto message = [&](std::vector<int32_t> prompt) { return error_from([&] { decoder.add(std::move(prompt), sampler(0), {}); }); };
  EXPECT_TRUE(contains(message({}), {"empty"}));
  EXPECT_TRUE(contains(message(some_ids(65, 0)), {"65 tokens", "64"}));
  EXPECT_TRUE(contains(message({257}), {"257", "0 to 256"}));
}

}  // namespace
}  // namespace sememe
