#include "sememe/language/packed_tokens.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <fstream>
#include <numeric>

#include "tests/language/small_model.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;
using testing::byte_tokenizer;
using testing::Documents;
using testing::expect_words;
using testing::message_of;

/// A file of the ids 0, 1, 2, ...: a token says where it stands.
struct CountingFile {
  explicit CountingFile(int64_t size) {
    std::vector<int32_t> ids(size);
    std::iota(ids.begin(), ids.end(), 0);
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(ids.data()), size * 4);
  }
  ~CountingFile() { fs::remove(path); }
  fs::path path = fs::temp_directory_path() / ("sememe_packed_" + std::to_string(::getpid()) + ".bin");
};

RC_GTEST_PROP(PackedTokens, AnEpochTakesEachWindowOnceWithTheNextTokensAsTargets, ()) {
  const int64_t context = *rc::gen::inRange<int64_t>(1, 10), windows = *rc::gen::inRange<int64_t>(1, 12);
  const CountingFile file(context * (windows + 1) + *rc::gen::inRange<int64_t>(0, context));
  PackedTokens packed(file.path, context, *rc::gen::arbitrary<uint64_t>());
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const Batch batch = packed.batch(epoch, windows);  // a batch as long as an epoch
    RC_ASSERT(batch.targets.equal(batch.inputs + 1));
    const torch::Tensor starts = std::get<0>(batch.inputs.select(1, 0).sort());
    const int64_t shift = starts[0].item<int64_t>();
    RC_ASSERT(shift < context);
    RC_ASSERT(batch.inputs.equal(batch.inputs.narrow(1, 0, 1) + torch::arange(context)));
    RC_ASSERT(starts.equal(torch::arange(windows) * context + shift));
  }
}

RC_GTEST_PROP(PackedTokens, ABatchDependsOnNothingReadBefore, ()) {
  const CountingFile file(*rc::gen::inRange<int64_t>(8, 120));
  const int64_t rows = *rc::gen::inRange<int64_t>(1, 9);  // more or fewer than an epoch has
  PackedTokens in_order(file.path, 4, 1), jumping(file.path, 4, 1);
  std::vector<Batch> batches;
  for (int64_t i = 0; i < 12; ++i) batches.push_back(in_order.batch(i, rows));
  const auto jumps = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(0, 12));
  for (const int64_t i : jumps) {
    const Batch again = jumping.batch(i, rows);
    RC_ASSERT(again.inputs.equal(batches[i].inputs));
    RC_ASSERT(again.targets.equal(batches[i].targets));
  }
}

TEST(PackedTokens, EpochsAndSeedsHaveOrdersOfTheirOwn) {
  const CountingFile file(64 * 8);
  PackedTokens one(file.path, 8, 1), two(file.path, 8, 2);
  EXPECT_FALSE(one.batch(0, 63).inputs.equal(one.batch(1, 63).inputs));
  EXPECT_FALSE(one.batch(0, 63).inputs.equal(two.batch(0, 63).inputs));
}

TEST(PackedTokens, FilesTooShortOrOfBrokenIdsAreRefusedByName) {
  {
    const CountingFile file(15);
    expect_words(message_of([&] { PackedTokens(file.path, 8, 1); }), {file.path.string(), "15 tokens", "context of 8"});
  }
  const CountingFile file(16);
  EXPECT_EQ(PackedTokens(file.path, 8, 1).size(), 16);
  fs::resize_file(file.path, 63);
  expect_words(message_of([&] { PackedTokens(file.path, 4, 1); }), {file.path.string(), "63 bytes"});
}

TEST(PackedTokens, DocumentsArePackedBehindEndOfText) {
  const CountingFile place(1);  // written over
  const Tokenizer tokenizer = byte_tokenizer();
  Documents corpus({"ab", "", "c"});
  EXPECT_EQ(pack_tokens(corpus, tokenizer, place.path), 6);
  const PackedTokens packed(place.path, 1, 1);
  const int32_t end = tokenizer.end_of_text(), a = tokenizer.encode("a")[0];
  const std::vector<int32_t> found(packed.ids().begin(), packed.ids().end());
  EXPECT_EQ(found, (std::vector<int32_t>{end, a, a + 1, end, end, a + 2}));
}

}  // namespace
}  // namespace sememe
