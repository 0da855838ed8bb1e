#include "sememe/inference/quantized_transformer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>

#include "sememe/base/error.h"
#include "tests/formats/error_text.h"
#include "tests/inference/small_gguf.h"

namespace {
std::atomic<int64_t> allocations = 0;
}

// NOLINTBEGIN: counts what the program allocates
void* operator new(size_t size) {
  ++allocations;
  if (void* const found = std::malloc(size)) return found;
  throw std::bad_alloc();
}
void operator delete(void* pointer) noexcept { std::free(pointer); }
void operator delete(void* pointer, size_t) noexcept { std::free(pointer); }
// NOLINTEND

namespace sememe {
namespace {

std::vector<int32_t> some_ids(int64_t count, int32_t first = 3) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>((first + 37 * i) % 257));
  return ids;
}

/// Logits of all tokens, the ids given in pieces of these sizes.
std::vector<float> logits_in_pieces(QuantizedTransformer& model, const std::vector<int32_t>& ids, const std::vector<int64_t>& pieces) {
  TokenCache cache(model.config());
  std::vector<float> all;
  int64_t at = 0;
  for (const int64_t size : pieces) {
    const TokenRun run{std::span(ids).subspan(at, size), &cache};
    const auto logits = model.forward({&run, 1}, LogitsOf::kAllTokens);
    all.insert(all.end(), logits.begin(), logits.end());
    at += size;
  }
  EXPECT_EQ(cache.tokens(), at);
  return all;
}

TEST(QuantizedTransformer, PiecesAndThreadsChangeNothing) {
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kQ4_1, GgmlType::kQ6_K}) {
    const SmallGgufFile file({.type = type});
    const std::vector<int32_t> ids = some_ids(40);
    std::vector<float> wanted;
    for (const int threads : {1, 2, 3}) {
      QuantizedTransformer model(file.path(), threads);
      for (const std::vector<int64_t>& pieces :
           {std::vector<int64_t>{40}, std::vector<int64_t>(40, 1), std::vector<int64_t>{1, 2, 3, 30, 4}, std::vector<int64_t>{17, 23}}) {
        const std::vector<float> found = logits_in_pieces(model, ids, pieces);
        if (wanted.empty()) wanted = found;
        EXPECT_EQ(found, wanted) << threads << " threads, " << pieces.size() << " pieces";
      }
    }
    double spread = 0.0;
    for (const float logit : wanted) spread = std::max(spread, std::abs(static_cast<double>(logit)));
    EXPECT_GT(spread, 0.1);
  }
}

TEST(QuantizedTransformer, SequencesOfOnePassAreAsIfAlone) {
  const SmallGgufFile file({.type = GgmlType::kQ8_0, .tied_head = false});
  QuantizedTransformer model(file.path(), 2);
  const std::vector<std::vector<int32_t>> texts = {some_ids(12, 1), some_ids(5, 90), some_ids(20, 200)};
  std::vector<std::vector<float>> alone;
  for (const auto& ids : texts) {
    TokenCache cache(model.config());
    const TokenRun run{ids, &cache};
    const auto logits = model.forward({&run, 1});
    alone.emplace_back(logits.begin(), logits.end());
  }
  // One begins while the others go on.
  std::vector<TokenCache> caches(3, TokenCache(model.config()));
  const TokenRun first[] = {{std::span(texts[0]).first(7), &caches[0]}, {std::span(texts[1]).first(3), &caches[1]}};
  model.forward(first);
  const TokenRun second[] = {{std::span(texts[1]).subspan(3), &caches[1]}, {texts[2], &caches[2]}, {std::span(texts[0]).subspan(7), &caches[0]}};
  const auto logits = model.forward(second);
  ASSERT_EQ(logits.size(), 3u * 257);
  const size_t order[] = {1, 2, 0};
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(std::vector<float>(logits.begin() + i * 257, logits.begin() + (i + 1) * 257), alone[order[i]]) << order[i];
}

TEST(QuantizedTransformer, AForgottenTokenIsAsIfNeverSeen) {
  const SmallGgufFile file({.type = GgmlType::kQ4_0});
  QuantizedTransformer model(file.path(), 1);
  const std::vector<int32_t> ids = some_ids(10), other = some_ids(6, 77);
  const std::vector<float> wanted = logits_in_pieces(model, ids, {10});
  TokenCache cache(model.config());
  const TokenRun runs[] = {{std::span(ids).first(5), &cache}, {other, &cache}, {std::span(ids).subspan(5), &cache}};
  model.forward({&runs[0], 1});
  model.forward({&runs[1], 1});
  cache.set_tokens(5);
  const auto logits = model.forward({&runs[2], 1}, LogitsOf::kAllTokens);
  EXPECT_EQ(std::vector<float>(logits.begin(), logits.end()), std::vector<float>(wanted.begin() + 5 * 257, wanted.end()));
}

/// Remembers what it saw at the sites it wants, and adds to it.
struct Witness : RowVisitor {
  std::vector<size_t> sites;
  float added = 0.0f;
  size_t last = SIZE_MAX;
  bool throws = false;
  std::vector<std::pair<size_t, std::vector<float>>> seen;

  bool wants(size_t site) const override { return std::find(sites.begin(), sites.end(), site) != sites.end(); }
  void visit(size_t site, float* rows, int64_t tokens, int64_t width) override {
    if (throws) throw std::runtime_error("the visitor's own");
    seen.emplace_back(site, std::vector<float>(rows, rows + tokens * width));
    for (int64_t i = 0; i < tokens * width; ++i) rows[i] += added;
  }
  bool finished() const override { return !seen.empty() && seen.back().first == last; }
};

std::vector<size_t> all_sites(const QuantizedTransformer& model) {
  std::vector<size_t> sites(model.sites().size());
  for (size_t i = 0; i < sites.size(); ++i) sites[i] = i;
  return sites;
}

TEST(QuantizedTransformer, AVisitorSeesEverySiteInOrderAndChangesNothingByLooking) {
  const SmallGgufFile file({.type = GgmlType::kQ5_0});
  for (const int64_t count : {1, 3, 20}) {
    QuantizedTransformer model(file.path(), 2);
    ASSERT_EQ(model.sites().size(), 1u + 2 * 5 + 1);
    EXPECT_EQ(model.sites()[3].name, "blocks.0.mlp.act");
    const std::vector<int32_t> ids = some_ids(count);
    const std::vector<float> wanted = logits_in_pieces(model, ids, {count});
    Witness witness;
    witness.sites = all_sites(model);
    TokenCache cache(model.config());
    const TokenRun run{ids, &cache};
    const auto logits = model.forward({&run, 1}, LogitsOf::kAllTokens, {&witness});
    EXPECT_EQ(std::vector<float>(logits.begin(), logits.end()), wanted);
    ASSERT_EQ(witness.seen.size(), model.sites().size());
    for (size_t i = 0; i < witness.seen.size(); ++i) {
      EXPECT_EQ(witness.seen[i].first, i);
      EXPECT_EQ(witness.seen[i].second.size(), count * model.sites()[i].width);
    }
    // The stream is the sum of what was written to it.
    for (int64_t i = 0; i < count * 256; ++i) {
      EXPECT_NEAR(witness.seen[5].second[i], witness.seen[0].second[i] + witness.seen[1].second[i] + witness.seen[4].second[i], 1e-5);
      EXPECT_NEAR(witness.seen[10].second[i], witness.seen[5].second[i] + witness.seen[6].second[i] + witness.seen[9].second[i], 1e-5);
    }
    // One site at a time is the same as all at once.
    for (size_t site = 0; site < model.sites().size(); ++site) {
      Witness one;
      one.sites = {site};
      TokenCache other(model.config());
      const TokenRun again{ids, &other};
      model.forward({&again, 1}, LogitsOf::kAllTokens, {&one});
      ASSERT_EQ(one.seen.size(), 1u);
      EXPECT_EQ(one.seen[0].second, witness.seen[site].second) << model.sites()[site].name;
    }
  }
}

TEST(QuantizedTransformer, WhatAVisitorWritesFlowsOn) {
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  for (const int64_t count : {1, 20}) {
    QuantizedTransformer model(file.path(), 2);
    const std::vector<int32_t> ids = some_ids(count);
    const std::vector<float> plain = logits_in_pieces(model, ids, {count});
    for (size_t site = 0; site < model.sites().size(); ++site) {
      Witness adding;
      adding.sites = {site}, adding.added = 0.5f;
      TokenCache cache(model.config());
      const TokenRun run{ids, &cache};
      const auto logits = model.forward({&run, 1}, LogitsOf::kAllTokens, {&adding});
      EXPECT_NE(std::vector<float>(logits.begin(), logits.end()), plain) << model.sites()[site].name;
    }
  }
}

TEST(QuantizedTransformer, APassEndsOnceTheVisitorHasFinished) {
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  QuantizedTransformer model(file.path(), 2);
  Witness witness;
  witness.sites = all_sites(model), witness.last = 4;
  TokenCache cache(model.config());
  const std::vector<int32_t> ids = some_ids(8);
  const TokenRun run{ids, &cache};
  EXPECT_TRUE(model.forward({&run, 1}, LogitsOf::kLastTokens, {&witness}).empty());
  EXPECT_EQ(witness.seen.size(), 5u);
}

TEST(QuantizedTransformer, AVisitorsErrorReachesTheCallerAndTheModelStaysUsable) {
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  QuantizedTransformer model(file.path(), 3);
  const std::vector<int32_t> ids = some_ids(8);
  const std::vector<float> wanted = logits_in_pieces(model, ids, {8});
  Witness witness;
  witness.sites = {3}, witness.throws = true;
  TokenCache cache(model.config());
  const TokenRun run{ids, &cache};
  EXPECT_THROW(model.forward({&run, 1}, LogitsOf::kLastTokens, {&witness}), std::runtime_error);
  EXPECT_EQ(cache.tokens(), 0);
  EXPECT_EQ(logits_in_pieces(model, ids, {8}), wanted);
}

TEST(QuantizedTransformer, WhatCannotBeIsAnErrorThatSaysSo) {
  const SmallGgufFile file({.type = GgmlType::kQ4_1, .context = 16});
  QuantizedTransformer model(file.path(), 1);
  TokenCache cache(model.config());
  const auto error_of = [&](const std::vector<int32_t>& ids) {
    const TokenRun run{ids, &cache};
    return error_from([&] { model.forward({&run, 1}); });
  };
  EXPECT_TRUE(contains(error_of(some_ids(17)), {"17 tokens", "context of 16"}));
  EXPECT_TRUE(contains(error_of({257}), {"token 257", "0 to 256"}));
  EXPECT_TRUE(contains(error_of({-1}), {"token -1"}));
  EXPECT_TRUE(contains(error_of({}), {"empty"}));
  EXPECT_EQ(cache.tokens(), 0);
  EXPECT_EQ(error_of(some_ids(16)), "no error");
  const SmallGgufFile odd({.width = 48, .heads = 2, .key_value_heads = 1, .feed_forward = 64});
  EXPECT_TRUE(contains(error_from([&] { QuantizedTransformer(odd.path(), 1); }), {"model.gguf", "multiples of 32"}));
}

TEST(QuantizedTransformer, DecodingAllocatesNothingOnceBuffersAreThere) {
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  QuantizedTransformer model(file.path(), 2);
  TokenCache cache(model.config());
  cache.reserve(40);
  const std::vector<int32_t> ids = some_ids(40);
  const auto one = [&](int64_t at) {
    const TokenRun run{std::span(ids).subspan(at, 1), &cache};
    model.forward({&run, 1});
  };
  for (int64_t at = 0; at < 17; ++at) one(at);
  const int64_t before = allocations;
  for (int64_t at = 17; at < 32; ++at) one(at);
  EXPECT_EQ(allocations - before, 0);
}

TEST(QuantizedTransformer, EveryTypeOfBlocksRuns) {
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16, GgmlType::kQ4_0, GgmlType::kQ4_1, GgmlType::kQ5_0, GgmlType::kQ5_1,
                              GgmlType::kQ8_0, GgmlType::kQ2_K, GgmlType::kQ3_K, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kQ8_K}) {
    const SmallGgufFile file({.type = type});
    QuantizedTransformer model(file.path(), 2);
    EXPECT_EQ(logits_in_pieces(model, some_ids(9), {9}).size(), 9u * 257) << block_layout(type).name;
  }
}

/// Every third neuron of the first layer, all of the second.
NeuronSets some_sets(const TransformerConfig& config) {
  NeuronSets sets(config.layers);
  sets[0].emplace();
  for (int32_t neuron = 1; neuron < config.feed_forward_width; neuron += 3) sets[0]->push_back(neuron);
  return sets;
}

TEST(QuantizedTransformer, KeptNeuronsAloneGiveTheBitsOfAllWithTheOthersAtZero) {
  struct Zeroing : RowVisitor {
    const NeuronSets* sets;
    bool wants(size_t site) const override { return site == 3; }
    void visit(size_t, float* rows, int64_t tokens, int64_t width) override {
      for (int64_t i = 0; i < tokens * width; ++i)
        if (!std::binary_search((*sets)[0]->begin(), (*sets)[0]->end(), static_cast<int32_t>(i % width))) rows[i] = 0.0f;
    }
  } zeroing;
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kQ4_0, GgmlType::kQ5_1, GgmlType::kQ8_0, GgmlType::kQ2_K, GgmlType::kQ4_K,
                              GgmlType::kQ6_K, GgmlType::kQ8_K}) {
    const SmallGgufFile file({.type = type});
    const std::vector<int32_t> ids = some_ids(12);
    std::vector<float> wanted;
    for (const int threads : {1, 2, 3}) {
      QuantizedTransformer model(file.path(), threads);
      const NeuronSets sets = some_sets(model.config());
      zeroing.sets = &sets;
      const auto run = [&](const PassWatchers& watchers, const std::vector<int64_t>& pieces) {
        TokenCache cache(model.config());
        std::vector<float> all;
        int64_t at = 0;
        for (const int64_t size : pieces) {
          const TokenRun part{std::span(ids).subspan(at, size), &cache};
          const auto logits = model.forward({&part, 1}, LogitsOf::kAllTokens, watchers);
          all.insert(all.end(), logits.begin(), logits.end());
          at += size;
        }
        return all;
      };
      if (wanted.empty()) wanted = run({.sites = &zeroing}, {12});
      const std::unique_ptr<NeuronSubset> subset = model.keep(sets);
      EXPECT_EQ(run({.subset = subset.get()}, std::vector<int64_t>(12, 1)), wanted) << block_layout(type).name << ", one by one";
      EXPECT_EQ(run({.subset = subset.get()}, {2, 1, 9}), wanted) << block_layout(type).name << ", in pieces";
      EXPECT_NE(run({}, {12}), wanted);
      EXPECT_LT(subset->weight_bytes(), 0.2 * static_cast<double>(model.weight_bytes()));
    }
  }
}

TEST(QuantizedTransformer, ASubsetTakesTheMemoryOfTheLast) {
  const SmallGgufFile file({.type = GgmlType::kQ4_0});
  QuantizedTransformer model(file.path(), 2);
  const std::vector<int32_t> ids = {7};
  const auto logits_with = [&](NeuronSubset& subset) {
    TokenCache cache(model.config());
    const TokenRun run{ids, &cache};
    const auto logits = model.forward({&run, 1}, LogitsOf::kLastTokens, {.subset = &subset});
    return std::vector<float>(logits.begin(), logits.end());
  };
  NeuronSets first = some_sets(model.config()), second(2), third(2);
  second[1].emplace({3, 4, 90});
  third[0].emplace(model.config().feed_forward_width);
  for (int32_t i = 0; i < model.config().feed_forward_width; ++i) (*third[0])[i] = i;
  auto subset = model.keep(first);
  for (const NeuronSets& sets : {second, third, first}) {
    const auto fresh = model.keep(sets);
    subset = model.keep(sets, std::move(subset));
    EXPECT_EQ(logits_with(*subset), logits_with(*fresh));
  }
}

TEST(QuantizedTransformer, SetsOfNeuronsThatCannotBeAreRefused) {
  const SmallGgufFile file({});
  QuantizedTransformer model(file.path(), 1);
  const auto message = [&](NeuronSets sets) { return error_from([&] { model.keep(std::move(sets)); }); };
  EXPECT_NE(message(NeuronSets(1)).find("1 layers, but the model has 2"), std::string::npos);
  EXPECT_NE(message({std::nullopt, std::vector<int32_t>{}}).find("no neuron of layer 1"), std::string::npos);
  EXPECT_NE(message({std::vector<int32_t>{3, 3}, std::nullopt}).find("neuron 3 of layer 0"), std::string::npos);
  EXPECT_NE(message({std::vector<int32_t>{256}, std::nullopt}).find("neuron 256 of layer 0"), std::string::npos);
}

/// Remembers what each input held, and may set a part to zero.
struct InputWitness : InputVisitor {
  std::vector<std::vector<float>> seen[kMatrixInputs];
  bool thins = false;
  std::mutex mutex;
  bool wants(int64_t layer, MatrixInput) const override { return layer == 1; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int, int) override {
    const std::lock_guard lock(mutex);
    for (int64_t t = first; t < last; ++t) {
      float* const row = rows.values + t * rows.stride;
      seen[static_cast<int>(rows.input)].emplace_back(row, row + rows.width);
      if (thins) std::fill(row, row + rows.width / 2, 0.0f);
    }
  }
};

TEST(QuantizedTransformer, AnInputVisitorSeesEachRowOnceAndWhatItLeavesOutIsLeftOut) {
  const SmallGgufFile file({.type = GgmlType::kQ8_0});
  const std::vector<int32_t> ids = some_ids(9);
  for (const int threads : {1, 2, 3}) {
    QuantizedTransformer model(file.path(), threads);
    const std::vector<float> plain = logits_in_pieces(model, ids, {9});
    for (const bool thins : {false, true}) {
      InputWitness one_by_one, at_once;
      one_by_one.thins = at_once.thins = thins;
      std::vector<float> logits[2];
      TokenCache caches[2] = {TokenCache(model.config()), TokenCache(model.config())};
      const TokenRun all{ids, &caches[0]};
      const auto whole = model.forward({&all, 1}, LogitsOf::kAllTokens, {.inputs = &at_once});
      logits[0].assign(whole.begin(), whole.end());
      for (const int32_t& id : ids) {
        const TokenRun run{{&id, 1}, &caches[1]};
        const auto last = model.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &one_by_one});
        logits[1].insert(logits[1].end(), last.begin(), last.end());
      }
      EXPECT_EQ(logits[0], logits[1]);
      EXPECT_EQ(logits[0] == plain, !thins);
      for (int input = 0; input < kMatrixInputs; ++input) {
        EXPECT_EQ(at_once.seen[input].size(), ids.size()) << input;
        EXPECT_EQ(one_by_one.seen[input].size(), ids.size()) << input;
      }
    }
  }
}

}  // namespace
}  // namespace sememe
