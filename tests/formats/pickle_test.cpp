#include "sememe/formats/pickle.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "tests/formats/error_text.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

struct Storage {
  std::string name, bytes;
};

void write_checkpoint(const std::filesystem::path& path, const std::string& pickle, const std::vector<Storage>& storages = {},
                      const std::string& order = "little") {
  ZipWriter writer(path);
  writer.add("x/data.pkl", bytes_of(pickle));
  writer.add("x/byteorder", bytes_of(order));
  for (const Storage& storage : storages) writer.add("x/data/" + storage.name, bytes_of(storage.bytes));
  writer.commit();
}

/// What opening the checkpoint and asking for every tensor says.
std::string error_of(const std::string& pickle, const std::vector<Storage>& storages = {}, const std::string& order = "little") {
  const ScratchPath scratch("bad.pt");
  write_checkpoint(scratch.path(), pickle, storages, order);
  const std::string message = error_from([&] {
    TorchCheckpoint file(scratch.path());
    for (const std::string& name : file.names()) static_cast<void>(file.tensor(name));
  });
  if (message != "no error") EXPECT_TRUE(contains(message, {"bad.pt"}));
  return message;
}

std::string text(const std::string& value) { return "\x8c" + std::string(1, static_cast<char>(value.size())) + value; }
std::string small(int value) { return "K" + std::string(1, static_cast<char>(value)); }
std::string tuple(const std::vector<int>& values) {
  std::string all = "(";
  for (const int value : values) all += small(value);
  return all + "t";
}

/// A tensor of a float32 storage "0".
std::string tensor(int elements, int offset, const std::vector<int>& shape, const std::vector<int>& strides,
                   const std::string& type = "FloatStorage") {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\n" + type + "\n" + text("0") + text("cpu") + small(elements) +
         "tQ" + small(offset) + tuple(shape) + tuple(strides) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}
std::string dict(const std::string& key, const std::string& value) { return "\x80\x02}" + text(key) + value + "s."; }

std::string floats(const std::vector<float>& values) { return {reinterpret_cast<const char*>(values.data()), values.size() * 4}; }

RC_GTEST_PROP(TorchCheckpoint, WhatIsWrittenIsReadBack, (std::map<std::string, std::vector<int64_t>> content)) {
  std::vector<TensorView> tensors;
  for (const auto& [name, values] : content) {
    bool plain = true;  // names are UTF-8; RapidCheck draws bytes
    for (const char c : name) plain = plain && static_cast<unsigned char>(c) < 128;
    if (plain) tensors.push_back({name, DType::kI64, {static_cast<int64_t>(values.size()), 1}, std::as_bytes(std::span(values))});
  }
  const ScratchPath scratch("x.pt");
  write_torch_checkpoint(scratch.path(), tensors);
  TorchCheckpoint file(scratch.path());
  RC_ASSERT(file.names().size() == tensors.size());
  for (const TensorView& wanted : tensors) {
    const TensorView& found = file.tensor(wanted.name);
    RC_ASSERT((found.dtype == wanted.dtype && found.shape == wanted.shape && found.data.size() == wanted.data.size()));
    RC_ASSERT((wanted.data.empty() || std::memcmp(found.data.data(), wanted.data.data(), wanted.data.size()) == 0));
  }
}

TEST(TorchCheckpoint, StridesAreGathered) {
  const ScratchPath scratch("x.pt");
  write_checkpoint(scratch.path(), dict("w", tensor(7, 1, {2, 3}, {1, 2})), {{"0", floats({9, 1, 4, 2, 5, 3, 6})}});
  TorchCheckpoint file(scratch.path());
  const float wanted[] = {1, 2, 3, 4, 5, 6};
  ASSERT_EQ(file.tensor("w").data.size(), sizeof wanted);
  EXPECT_EQ(std::memcmp(file.tensor("w").data.data(), wanted, sizeof wanted), 0);
}

TEST(TorchCheckpoint, NestedMembersAndPlainValuesAreRead) {
  const ScratchPath scratch("x.pt");
  write_checkpoint(scratch.path(), dict("state", "}(" + text("k") + small(32) + text("name") + text("ReLU") + text("rate") +
                                                     std::string("G\x3f\xe0\0\0\0\0\0\0", 9) + text("none") + "N" + text("flag") + "\x88" +
                                                     text("list") + "](" + small(1) + small(2) + "e" + text("w") + tensor(1, 0, {}, {}) + "u"),
                   {{"0", floats({1.5f})}});
  TorchCheckpoint file(scratch.path());
  EXPECT_EQ(file.names(), std::vector<std::string>{"state.w"});
  EXPECT_TRUE(file.tensor("state.w").shape.empty());
  EXPECT_EQ(file.values(), (Json{{"state.k", 32}, {"state.name", "ReLU"}, {"state.rate", 0.5}, {"state.none", nullptr},
                                 {"state.flag", true}, {"state.list", {1, 2}}}));
}

TEST(TorchCheckpoint, CodeIsRefusedByName) {
  EXPECT_TRUE(contains(error_of("\x80\x02" "cposix\nsystem\n" + text("true") + "\x85R."), {"refuses to run code", "posix.system"}));
  EXPECT_TRUE(contains(error_of("\x80\x04" + text("builtins") + text("eval") + "\x93" + text("1") + "\x85R."),
                       {"refuses to run code", "builtins.eval"}));
  EXPECT_TRUE(contains(error_of("\x80\x02" "cos\nsystem\n."), {"refuses to run code", "os.system"}));
  EXPECT_TRUE(contains(error_of("\x80\x02" "ccollections\nOrderedDict\n)\x81."), {"refuses to run code"}));
  EXPECT_TRUE(contains(error_of("\x80\x02" "(ios\nsystem\n."), {"refuses to run code"}));
  // A type of storage is no function.
  EXPECT_TRUE(contains(error_of("\x80\x02" "ctorch\nFloatStorage\n)R."), {"refuses to run code", "torch.FloatStorage"}));
  EXPECT_TRUE(contains(error_of("\x80\x02" "ctorch.evil\nStorage\n)R."), {"refuses to run code", "torch.evil.Storage"}));
}

TEST(TorchCheckpoint, TensorsThatTheirStorageCannotHoldAreNamed) {
  const std::vector<Storage> six = {{"0", floats({1, 2, 3, 4, 5, 6})}};
  EXPECT_EQ(error_of(dict("w", tensor(6, 0, {2, 3}, {3, 1})), six), "no error");
  EXPECT_TRUE(contains(error_of(dict("w", tensor(6, 1, {2, 3}, {3, 1})), six), {"\"w\"", "number 6"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(6, 0, {2, 3}, {4, 1})), six), {"\"w\"", "number 6"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(7, 0, {2, 3}, {3, 1})), six), {"\"w\"", "24 bytes"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(6, 0, {2, 3}, {3, 1}))), {"\"w\"", "missing"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(6, 0, {2, 3}, {3})), six), {"strides"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(6, 0, {99, 99}, {0, 0})), six), {"\"w\"", "9801 elements"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(6, 0, {6}, {1}, "QUInt8Storage")), six), {"torch.QUInt8Storage"}));
}

TEST(TorchCheckpoint, DamagedStorageIsNamed) {
  const ScratchPath scratch("bad.pt");
  write_checkpoint(scratch.path(), dict("w", tensor(2, 0, {2}, {1})), {{"0", floats({1.25f, 2.5f})}});
  std::string bytes = read_file(scratch.path());
  bytes[bytes.find(floats({1.25f, 2.5f}))] ^= 1;
  put_file(scratch.path(), bytes);
  TorchCheckpoint file(scratch.path());
  EXPECT_TRUE(contains(error_from([&] { file.tensor("w"); }), {"bad.pt", "data/0", "CRC-32"}));
}

TEST(TorchCheckpoint, WhatIsNoStateDictIsAnError) {
  EXPECT_TRUE(contains(error_of("\x80\x02" "K\x01."), {"no dict of tensors"}));
  EXPECT_TRUE(contains(error_of(dict("w", tensor(1, 0, {1}, {1})), {{"0", floats({1})}}, "big"), {"\"big\""}));
  EXPECT_TRUE(contains(error_of("\x80\x06}."), {"protocol 6"}));
  EXPECT_TRUE(contains(error_of("\x80\x02}" + text("a") + "\xff" + "."), {"0xff"}));
  EXPECT_TRUE(contains(error_of(dict("a", "](" + tensor(1, 0, {1}, {1}) + "e")), {"members of dicts"}));
  const ScratchPath scratch("bad.pt");
  put_file(scratch.path(), "\x80\x02}.");
  EXPECT_TRUE(contains(error_from([&] { TorchCheckpoint file(scratch.path()); }), {"bad.pt", "before version 1.6"}));
}

TEST(TorchCheckpoint, EveryTruncationOfThePickleIsAnError) {
  const std::string whole = dict("w", tensor(2, 0, {2}, {1}));
  for (size_t length = 0; length < whole.size(); length += 3)
    EXPECT_NE(error_of(whole.substr(0, length), {{"0", floats({1, 2})}}), "no error") << length;
}

TEST(TorchCheckpoint, CirclesAndListsThatGrowByNamingThemselvesEnd) {
  // d["a"] = d
  EXPECT_TRUE(contains(error_of("\x80\x02}q\x01" + text("a") + "h\x01s."), {"deep"}));
  // Ten lists, each of ten times the one before, and more levels than are read.
  std::string pickle = "\x80\x02}" + text("a") + "]";
  for (int level = 0; level < 12; ++level) {
    pickle += "q" + std::string(1, static_cast<char>(level + 1)) + "0](";
    for (int i = 0; i < 10; ++i) pickle += "h" + std::string(1, static_cast<char>(level + 1));
    pickle += "e";
  }
  EXPECT_TRUE(contains(error_of(pickle + "s."), {"million values"}));
}

TEST(TorchCheckpoint, AMissingTensorListsWhatThereIs) {
  const ScratchPath scratch("x.pt");
  write_checkpoint(scratch.path(), dict("W_enc", tensor(1, 0, {1}, {1})), {{"0", floats({1})}});
  TorchCheckpoint file(scratch.path());
  EXPECT_TRUE(contains(error_from([&] { file.tensor("W_dec"); }), {"x.pt", "W_dec", "W_enc"}));
}

}  // namespace
}  // namespace sememe
