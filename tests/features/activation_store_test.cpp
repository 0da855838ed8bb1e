#include "sememe/features/activation_store.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <set>

#include "sememe/formats/npy.h"
#include "sememe/network/tensors.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

class StoreFolder : public ScratchFolder {
 protected:
  static std::string message(const std::filesystem::path& path) {
    return error_from([&] {
      const ActivationStore store = ActivationStore::open(path);
      store.read(0, store.rows());
    });
  }
  std::filesystem::path npy(const torch::Tensor& rows, const char* name = "x.npy") {
    NpyWriter writer(folder_ / name, rows.size(1));
    writer.write({rows.data_ptr<float>(), static_cast<size_t>(rows.numel())});
    writer.commit();
    return folder_ / name;
  }
  /// Row i holds i in each place, its gradient -i.
  static torch::Tensor counting(int64_t begin, int64_t rows, int64_t width = 3) {
    return torch::arange(begin, begin + rows, torch::kFloat).unsqueeze(1).expand({rows, width}).contiguous();
  }
  /// A store of two shards with six rows each, and what opening it says after `change` was made to its manifest.
  template <class Change>
  std::string message_with_manifest(Change change) {
    std::filesystem::remove_all(folder_ / "s");
    ActivationWriter writer(folder_ / "s", {.width = 3, .shard_rows = 6});
    writer.append(counting(0, 6), {});
    writer.append(counting(6, 6), {});
    writer.finish();
    Json manifest = read_json(folder_ / "s" / "manifest.json");
    change(manifest);
    write_json(folder_ / "s" / "manifest.json", manifest);
    return message(folder_ / "s");
  }
};

TEST_F(StoreFolder, GivesBackWhatWasWrittenOverSeveralShards) {
  ActivationWriter writer(folder_ / "s", {.width = 3, .gradients = true, .half = true, .origin = {{"site", "a"}}, .shard_rows = 10});
  for (int i = 0; i < 7; ++i) writer.append(counting(4 * i, 4), -counting(4 * i, 4));
  writer.finish();
  const ActivationStore store = ActivationStore::open(folder_ / "s");
  EXPECT_EQ(store.rows(), 28);
  EXPECT_EQ(store.origin()["site"], "a");
  const ActivationRows rows = store.read(9, 15);
  EXPECT_TRUE(torch::equal(rows.activations, counting(9, 15)));
  EXPECT_TRUE(torch::equal(rows.gradients, -counting(9, 15)));
}

TEST_F(StoreFolder, AnInterruptedCaptureIsContinuedNotOpened) {
  const ActivationWriter::Settings settings{.width = 3, .half = false, .origin = {{"site", "a"}}, .shard_rows = 8};
  {
    ActivationWriter writer(folder_ / "s", settings);
    for (int i = 0; i < 3; ++i) writer.append(counting(4 * i, 4), {});  // the third batch is lost
  }
  EXPECT_NE(message(folder_ / "s").find("not complete"), std::string::npos);
  ActivationWriter writer(folder_ / "s", settings);
  ASSERT_EQ(writer.stored_batches(), 2);
  ASSERT_EQ(writer.rows(), 8);
  writer.append(counting(8, 4), {});
  writer.finish();
  EXPECT_TRUE(torch::equal(ActivationStore::open(folder_ / "s").read(0, 12).activations, counting(0, 12)));
  EXPECT_TRUE(ActivationWriter(folder_ / "s", settings).complete());
}

TEST_F(StoreFolder, AnotherCaptureIsNotContinued) {
  ActivationWriter(folder_ / "s", {.width = 3, .origin = {{"site", "a"}}, .shard_rows = 1}).append(counting(0, 4), {});
  EXPECT_THROW(ActivationWriter(folder_ / "s", {.width = 3, .origin = {{"site", "b"}}}), Error);
}

TEST_F(StoreFolder, OtherSettingsAreAnotherCapture) {
  const ActivationWriter::Settings settings{.width = 3, .gradients = false, .half = true, .origin = {{"site", "a"}}, .shard_rows = 1};
  ActivationWriter(folder_ / "s", settings).append(counting(0, 4), {});
  const auto refused = [&](auto change) {
    ActivationWriter::Settings other = settings;
    change(other);
    return contains(error_from([&] { ActivationWriter(folder_ / "s", other); }), {"s: ", "other settings"});
  };
  EXPECT_TRUE(refused([](auto& other) { other.width = 4; }));
  EXPECT_TRUE(refused([](auto& other) { other.gradients = true; }));
  EXPECT_TRUE(refused([](auto& other) { other.half = false; }));
}

TEST_F(StoreFolder, AFolderOfOtherFilesIsLeftAlone) {
  std::filesystem::create_directory(folder_ / "s");
  write_file(folder_ / "s" / "thesis.txt", "mine");
  EXPECT_TRUE(contains(error_from([&] { ActivationWriter(folder_ / "s", {.width = 3}); }), {"s: ", "other files"}));
  write_file(folder_ / "t", "a file");
  EXPECT_TRUE(contains(error_from([&] { ActivationWriter(folder_ / "t", {.width = 3}); }), {"t: ", "is a file"}));
}

TEST_F(StoreFolder, AStoreWithoutRowsIsNotFinished) {
  ActivationWriter writer(folder_ / "s", {.width = 3});
  EXPECT_TRUE(contains(error_from([&] { writer.finish(); }), {"s: ", "nothing to store"}));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "s"));
}

TEST_F(StoreFolder, Float32KeepsEveryBitAndFloat16ItsOwn) {
  torch::manual_seed(1);
  const torch::Tensor rows = torch::randn({40, 3}) * 100.0, gradients = torch::randn({40, 3}) * 1e-3;
  for (const bool half : {false, true}) {
    const auto path = folder_ / (half ? "half" : "full");
    ActivationWriter writer(path, {.width = 3, .gradients = true, .half = half, .shard_rows = 16});
    for (int64_t i = 0; i < 40; i += 10) writer.append(rows.narrow(0, i, 10), gradients.narrow(0, i, 10));
    writer.finish();
    const ActivationRows read = ActivationStore::open(path).read(0, 40);
    const auto stored = [&](const torch::Tensor& x) { return half ? x.to(torch::kHalf).to(torch::kFloat) : x; };
    EXPECT_TRUE(torch::equal(read.activations, stored(rows))) << half;
    EXPECT_TRUE(torch::equal(read.gradients, stored(gradients))) << half;
  }
}

RC_GTEST_FIXTURE_PROP(StoreFolder, AnyRowsAreReadFromAnyShards, ()) {
  const int64_t batches = *rc::gen::inRange<int64_t>(1, 6), shard_rows = *rc::gen::inRange<int64_t>(1, 12);
  std::filesystem::remove_all(folder_ / "s");
  ActivationWriter writer(folder_ / "s", {.width = 2, .shard_rows = shard_rows});
  int64_t rows = 0;
  for (int64_t i = 0; i < batches; ++i) {
    const int64_t count = *rc::gen::inRange<int64_t>(1, 9);
    writer.append(counting(rows, count, 2), {});
    rows += count;
  }
  writer.finish();
  const ActivationStore store = ActivationStore::open(folder_ / "s");
  RC_ASSERT(store.rows() == rows);
  const int64_t begin = *rc::gen::inRange<int64_t>(0, rows + 1), count = *rc::gen::inRange<int64_t>(0, rows - begin + 1);
  RC_ASSERT(torch::equal(store.read(begin, count).activations, counting(begin, count, 2)));
}

TEST_F(StoreFolder, RowsPastTheEndAreAnError) {
  const ActivationStore store = ActivationStore::open(npy(counting(0, 5)));
  for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{3, 3}, {-1, 2}, {0, -1}, {6, 0}})
    EXPECT_TRUE(contains(error_from([&] { store.read(begin, count); }), {"x.npy", "it has 5"})) << begin;
}

TEST_F(StoreFolder, ValuesThatAreNotFiniteNameFileAndRow) {
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
    torch::Tensor rows = counting(0, 700);
    rows[421][1] = value;
    EXPECT_TRUE(contains(message(npy(rows)), {"x.npy", "row 421"})) << value;
  }
}

TEST_F(StoreFolder, GradientsThatAreNotFiniteNameFileAndRow) {
  torch::Tensor gradients = counting(0, 9);
  gradients[7][0] = std::numeric_limits<float>::quiet_NaN();
  save_tensors(folder_ / "x.safetensors", {{"activations", counting(0, 9)}, {"gradients", gradients}});
  EXPECT_TRUE(contains(message(folder_ / "x.safetensors"), {"x.safetensors", "gradients of row 7"}));
}

TEST_F(StoreFolder, ValuesThatAreNotFiniteAreNotWritten) {
  ActivationWriter writer(folder_ / "s", {.width = 3, .gradients = true, .shard_rows = 1});
  torch::Tensor bad = counting(0, 4);
  bad[2][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { writer.append(bad, counting(0, 4)); }), {"activations of row 2"}));
  EXPECT_TRUE(contains(error_from([&] { writer.append(counting(0, 4), bad); }), {"gradients of row 2"}));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "s"));
}

TEST_F(StoreFolder, ValuesBeyondFloat16NameTheRemedy) {
  ActivationWriter writer(folder_ / "s", {.width = 3});
  writer.append(counting(0, 10), {});
  torch::Tensor large = counting(10, 4);
  large[2][1] = 7e4;
  EXPECT_TRUE(contains(error_from([&] { writer.append(large, {}); }), {"row 12", "float16", "--dtype float32"}));
}

TEST_F(StoreFolder, OpensSafetensorsWithGradients) {
  save_tensors(folder_ / "x.safetensors", {{"activations", counting(0, 5)}, {"gradients", -counting(0, 5)}});
  const ActivationStore store = ActivationStore::open(folder_ / "x.safetensors");
  ASSERT_TRUE(store.has_gradients());
  EXPECT_TRUE(torch::equal(store.read(2, 3).gradients, -counting(2, 3)));
}

TEST_F(StoreFolder, WrongFilesAreRefusedByName) {
  save_tensors(folder_ / "flat.safetensors", {{"activations", torch::zeros({5})}});
  save_tensors(folder_ / "uneven.safetensors", {{"activations", torch::zeros({5, 2})}, {"gradients", torch::zeros({4, 2})}});
  save_tensors(folder_ / "mixed.safetensors",
               {{"activations", torch::zeros({5, 2})}, {"gradients", torch::zeros({5, 2}, torch::kHalf)}});
  save_tensors(folder_ / "other.safetensors", {{"weights", torch::zeros({5, 2})}});
  save_tensors(folder_ / "whole.safetensors", {{"activations", torch::zeros({5, 2}, torch::kLong)}});
  save_tensors(folder_ / "none.safetensors", {{"activations", torch::zeros({0, 2})}});
  write_file(folder_ / "text.txt", "hello");
  write_file(folder_ / "broken.npy", "hello");
  std::filesystem::create_directory(folder_ / "bare");
  for (const auto& [name, what] : {std::pair{"flat.safetensors", "1 dimension"}, {"uneven.safetensors", "\"gradients\""},
                                   {"mixed.safetensors", "\"gradients\""}, {"other.safetensors", "activations"},
                                   {"whole.safetensors", "convert"}, {"none.safetensors", "no rows"}, {"text.txt", "activations are"},
                                   {"broken.npy", ""}, {"bare", "manifest.json"}, {"missing", "no such file"}})
    EXPECT_TRUE(contains(message(folder_ / name), {name, what}));
}

TEST_F(StoreFolder, NpyOfOtherShapesAndTypesIsRefused) {
  const auto write = [&](const char* name, const char* type, const char* shape, size_t bytes) {
    std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", type, shape);
    header.resize(117, ' ');
    write_file(folder_ / name, std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + "\n" + std::string(bytes, '\0'));
    return message(folder_ / name);
  };
  EXPECT_EQ(write("good.npy", "<f2", "(2, 3)", 12), "no error");
  EXPECT_TRUE(contains(write("flat.npy", "<f4", "(6,)", 24), {"flat.npy", "1 dimension"}));
  EXPECT_TRUE(contains(write("cube.npy", "<f4", "(1, 2, 3)", 24), {"cube.npy", "3 dimension"}));
  EXPECT_TRUE(contains(write("double.npy", "<f8", "(2, 3)", 48), {"double.npy", "float32 or float16"}));
  EXPECT_TRUE(contains(write("short.npy", "<f4", "(2, 3)", 20), {"short.npy"}));
}

TEST_F(StoreFolder, ATruncatedShardIsNamed) {
  EXPECT_TRUE(contains(message_with_manifest([&](Json&) {
                         std::filesystem::resize_file(folder_ / "s" / "shard-00001.safetensors", 80);
                       }),
                       {"shard-00001.safetensors"}));
  EXPECT_TRUE(contains(message_with_manifest([&](Json&) { std::filesystem::remove(folder_ / "s" / "shard-00000.safetensors"); }),
                       {"shard-00000.safetensors"}));
}

TEST_F(StoreFolder, AManifestThatLiesIsNamed) {
  EXPECT_EQ(message_with_manifest([](Json&) {}), "no error");
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["rows"] = 13; }), {"manifest.json", "\"rows\""}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["shards"][1]["rows"] = 7; }), {"shard-00001", "manifest.json"}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["width"] = 4; }), {"shard-00000", "manifest.json"}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["gradients"] = true; }), {"shard-00000", "manifest.json"}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["shards"][0]["file"] = "../x.safetensors"; }), {"manifest.json", "../x"}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["shards"] = 3; }), {"manifest.json"}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["shards"] = Json::array(); }), {"manifest.json", "\"rows\""}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m["origin"] = "home"; }), {"manifest.json", "\"origin\""}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m.erase("complete"); }), {"manifest.json", "\"complete\""}));
  EXPECT_TRUE(contains(message_with_manifest([](Json& m) { m = Json::array(); }), {"manifest.json"}));
}

TEST_F(StoreFolder, EachEpochServesEveryRowOnceInAnotherOrder) {
  const auto path = npy(counting(0, 2000, 1));
  ShuffledActivations rows(ActivationStore::open(path), 5, std::numeric_limits<float>::infinity(), 600);
  const torch::Tensor first = rows.next(2000).activations.squeeze(1), second = rows.next(2000).activations.squeeze(1);
  const torch::Tensor all = torch::arange(2000, torch::kFloat);
  EXPECT_TRUE(torch::equal(std::get<0>(first.sort()), all));
  EXPECT_TRUE(torch::equal(std::get<0>(second.sort()), all));
  EXPECT_FALSE(torch::equal(first, second));
  EXPECT_FALSE(torch::equal(first, all));
}

TEST_F(StoreFolder, GoesOnFromAPosition) {
  const auto path = npy(counting(0, 2000, 1));
  const auto open = [&] { return ShuffledActivations(ActivationStore::open(path), 5, std::numeric_limits<float>::infinity(), 600); };
  ShuffledActivations rows = open(), again = open();
  rows.next(2770);
  const auto position = rows.position();
  again.seek(position);
  EXPECT_TRUE(torch::equal(rows.next(900).activations, again.next(900).activations));
}

TEST_F(StoreFolder, PartsOfABatchAreTheBatch) {
  const auto path = npy(counting(0, 900, 1));
  for (const float largest_norm : {std::numeric_limits<float>::infinity(), 700.5f}) {
    const auto open = [&] { return ShuffledActivations(ActivationStore::open(path), 5, largest_norm, 300); };
    ShuffledActivations whole = open(), first = open(), second = open();
    for (int i = 0; i < 4; ++i) {
      const torch::Tensor batch = whole.next(400).activations;
      EXPECT_TRUE(torch::equal(torch::cat({first.next(400, 0, 150).activations, second.next(400, 150, 250).activations}), batch));
    }
  }
}

TEST_F(StoreFolder, APositionThatIsNotThereIsAnError) {
  ShuffledActivations rows(ActivationStore::open(npy(counting(0, 50))), 5, std::numeric_limits<float>::infinity());
  for (const int64_t row : {int64_t{-1}, int64_t{50}}) {
    rows.seek({0, 0, row});
    EXPECT_TRUE(contains(error_from([&] { rows.next(1); }), {"x.npy", "checkpoint"}));
  }
}

RC_GTEST_FIXTURE_PROP(StoreFolder, AnyEpochServesEveryRowOnce, ()) {
  const int64_t count = *rc::gen::inRange<int64_t>(1, 1500), buffer = *rc::gen::inRange<int64_t>(1, 1000);
  ShuffledActivations rows(ActivationStore::open(npy(counting(0, count, 1))), *rc::gen::arbitrary<uint64_t>(),
                           std::numeric_limits<float>::infinity(), buffer);
  std::multiset<float> seen;
  for (int64_t left = 2 * count; left > 0;) {
    const int64_t part = std::min(left, *rc::gen::inRange<int64_t>(1, 600));
    const torch::Tensor some = rows.next(part).activations;
    RC_ASSERT(some.size(0) == part);
    seen.insert(some.data_ptr<float>(), some.data_ptr<float>() + part);
    left -= part;
  }
  for (int64_t i = 0; i < count; ++i) RC_ASSERT(seen.count(static_cast<float>(i)) == 2u);
}

TEST_F(StoreFolder, GradientsStayWithTheirRows) {
  save_tensors(folder_ / "x.safetensors", {{"activations", counting(0, 700)}, {"gradients", -counting(0, 700)}});
  ShuffledActivations rows(ActivationStore::open(folder_ / "x.safetensors"), 5, 600.0f, 300);
  const ActivationRows some = rows.next(500);
  EXPECT_TRUE(torch::equal(some.activations, -some.gradients));
}

TEST_F(StoreFolder, AnotherSeedIsAnotherOrder) {
  const ActivationStore store = ActivationStore::open(npy(counting(0, 300, 1)));
  const auto order = [&](uint64_t seed) {
    return ShuffledActivations(store, seed, std::numeric_limits<float>::infinity()).next(300).activations;
  };
  EXPECT_TRUE(torch::equal(order(1), order(1)));
  EXPECT_FALSE(torch::equal(order(1), order(2)));
}

TEST_F(StoreFolder, BlocksOfRowsComeInAnotherOrderEachEpoch) {
  // A buffer of one block of 256 rows: which block a row came from shows the order of the blocks.
  ShuffledActivations rows(ActivationStore::open(npy(counting(0, 256 * 12, 1))), 5, std::numeric_limits<float>::infinity(), 256);
  const auto blocks = [&] { return (rows.next(256 * 12).activations / 256).floor(); };
  const torch::Tensor first = blocks(), second = blocks();
  EXPECT_FALSE(torch::equal(first, second));
  EXPECT_FALSE(torch::equal(first, std::get<0>(first.sort(0))));
}

TEST_F(StoreFolder, RowsOfLargeNormAreLeftOut) {
  ShuffledActivations rows(ActivationStore::open(npy(counting(0, 100, 1))), 5, 49.5f);
  EXPECT_LT(rows.next(51).activations.max().item<float>(), 50.0f);
  EXPECT_GE(rows.dropped(), 50);
}

TEST_F(StoreFolder, LeavingOutEveryRowIsAnError) {
  ShuffledActivations rows(ActivationStore::open(npy(counting(1, 100, 1))), 5, 0.5f);
  EXPECT_TRUE(contains(error_from([&] { rows.next(10); }), {"x.npy", "every row is left out"}));
}

}  // namespace
}  // namespace sememe
