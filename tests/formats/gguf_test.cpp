#include "sememe/formats/gguf.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "sememe/formats/safetensors.h"
#include "sememe/formats/gguf_writer.h"
#include "tests/formats/error_text.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

std::string error_of(const std::string& bytes) {
  const ScratchPath scratch("bad.gguf");
  put_file(scratch.path(), bytes);
  const std::string message = error_from([&] { GgufFile file(scratch.path()); });
  if (message != "no error") EXPECT_TRUE(contains(message, {"bad.gguf"}));
  return message;
}

std::string error_of_value(const Bytes& value) {
  return error_of(Bytes().header(3, 0, 1).string("the.key").text + value.text);
}

std::string error_of_tensor(const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset, size_t data_bytes) {
  return error_of(Bytes().header(3, 1, 0).tensor("w", dimensions, type, offset).pad(32).data(data_bytes).text);
}

TEST(Gguf, EmptyFileIsAnError) {
  EXPECT_TRUE(contains(error_of(""), {"GGUF file?"}));
}
TEST(Gguf, AnotherFormatIsAnError) {
  EXPECT_TRUE(contains(error_of("ggjt0123456789012345678901234567"), {"does not begin"}));
}
TEST(Gguf, Version1IsRefusedInWords) {
  EXPECT_TRUE(contains(error_of(Bytes().header(1, 0, 0).text), {"version 1 is not read"}));
}
TEST(Gguf, BigEndianIsRefusedInWords) {
  EXPECT_TRUE(contains(error_of(Bytes().header(0x03000000, 0, 0).text), {"big-endian"}));
}
TEST(Gguf, UnknownVersionIsAnError) {
  EXPECT_TRUE(contains(error_of(Bytes().header(4, 0, 0).text), {"version 4 is not known"}));
  EXPECT_TRUE(contains(error_of(Bytes().header(0, 0, 0).text), {"version 0 is not known"}));
}
TEST(Gguf, FileWithoutKeysAndTensorsIsRead) {
  EXPECT_EQ(error_of(Bytes().header(3, 0, 0).text), "no error");
}
TEST(Gguf, HugeCountsAreErrorsBeforeAnythingIsAllocated) {
  EXPECT_TRUE(contains(error_of(Bytes().header(3, UINT64_MAX, 0).text), {"number of tensors", "18446744073709551615"}));
  EXPECT_TRUE(contains(error_of(Bytes().header(3, 0, UINT64_MAX).text), {"number of keys", "18446744073709551615"}));
}
TEST(Gguf, FileCutAnywhereIsAnError) {
  const std::vector<float> weights(64, 1.5f);
  const auto data = std::as_bytes(std::span(weights));
  const std::string whole = gguf_bytes(3, {{"a.text", std::string("value")}, {"a.list", std::vector<std::string>{"x", "", "yz"}}},
                                       {{"first", GgmlType::kF32, {2, 16}, data.first(128)}, {"second", GgmlType::kF32, {64}, data}});
  ASSERT_EQ(error_of(whole), "no error");
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_TRUE(contains(error_of(whole.substr(0, length)), {length < 4 ? "GGUF" : "copied whole"})) << length;
}
TEST(Gguf, KeyLongerThanTheFileIsAnError) {
  EXPECT_TRUE(contains(error_of(Bytes().header(3, 0, 1).number(UINT64_MAX).data(20).text), {"key 1 of 1", "18446744073709551615"}));
}
TEST(Gguf, KeyLongerThanTheFormatAllowsIsAnError) {
  EXPECT_TRUE(contains(error_of(Bytes().header(3, 0, 1).string(std::string(70000, 'k')).number(0).number('1').text), {"65535"}));
}
TEST(Gguf, StringLongerThanTheFileNamesTheKey) {
  EXPECT_TRUE(contains(error_of_value(Bytes().number(8).number(uint64_t{9}).data(8)), {"\"the.key\"", "9 bytes", "8 are left"}));
}
TEST(Gguf, ArrayLongerThanTheFileNamesTheKey) {
  EXPECT_TRUE(contains(error_of_value(Bytes().number(9).number(12).number(uint64_t{1} << 61).data(8)), {"\"the.key\"", "too few"}));
  EXPECT_TRUE(contains(error_of_value(Bytes().number(9).number(8).number(uint64_t{2}).data(15)), {"\"the.key\"", "too few"}));
}
TEST(Gguf, ArrayOfArraysIsRefusedInWords) {
  EXPECT_TRUE(contains(error_of_value(Bytes().number(9).number(9).number(uint64_t{0})), {"\"the.key\"", "array of arrays"}));
}
TEST(Gguf, UnknownValueTypeNamesTheKey) {
  EXPECT_TRUE(contains(error_of_value(Bytes().number(13).data(8)), {"\"the.key\"", "13"}));
  EXPECT_TRUE(contains(error_of_value(Bytes().number(9).number(99).number(uint64_t{0})), {"\"the.key\"", "99"}));
}
TEST(Gguf, BoolThatIsNeitherZeroNorOneNamesTheKey) {
  EXPECT_TRUE(contains(error_of_value(Bytes().number(7).number(uint8_t{2})), {"\"the.key\"", "bool is 2"}));
}
TEST(Gguf, KeyThatStandsTwiceIsNamed) {
  EXPECT_TRUE(contains(error_of(gguf_bytes(3, {{"twin", uint8_t{1}}, {"twin", uint8_t{1}}}, {})), {"\"twin\"", "twice"}));
}
TEST(Gguf, AlignmentMustBeAPowerOfTwoOfAtLeastEight) {
  for (const uint32_t alignment : {0u, 1u, 4u, 24u, 0xffffffffu})
    EXPECT_TRUE(contains(error_of(gguf_bytes(3, {{"general.alignment", alignment}}, {})), {"general.alignment", "power of two"}));
  EXPECT_TRUE(contains(error_of(gguf_bytes(3, {{"general.alignment", uint64_t{32}}}, {})), {"general.alignment", "uint64"}));
}
TEST(Gguf, TensorThatStandsTwiceIsNamed) {
  const std::string bytes = Bytes().header(3, 2, 0).tensor("twin", {1}, 0, 0).tensor("twin", {1}, 0, 32).pad(32).data(64).text;
  EXPECT_TRUE(contains(error_of(bytes), {"\"twin\"", "twice"}));
}
TEST(Gguf, TooManyDimensionsNameTheTensor) {
  EXPECT_TRUE(contains(error_of_tensor({1, 1, 1, 1, 1}, 0, 0, 4), {"\"w\"", "5 dimensions"}));
}
TEST(Gguf, OverflowingShapeIsAnErrorEvenBesideAZero) {
  EXPECT_TRUE(contains(error_of_tensor({uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0, 4), {"\"w\"", "63 bits"}));
  EXPECT_TRUE(contains(error_of_tensor({uint64_t{1} << 32, 0, uint64_t{1} << 32}, 0, 0, 4), {"\"w\"", "63 bits"}));
  EXPECT_TRUE(contains(error_of_tensor({UINT64_MAX}, 0, 0, 4), {"\"w\"", "63 bits"}));
}
TEST(Gguf, RowThatDoesNotFillItsBlocksIsAnError) {
  EXPECT_TRUE(contains(error_of_tensor({16, 2}, 2, 0, 18), {"\"w\"", "16 weights", "32", "Q4_0"}));
}
TEST(Gguf, TypesThatCannotBeReadAreRefusedByName) {
  EXPECT_TRUE(contains(error_of_tensor({256}, 16, 0, 66), {"\"w\"", "IQ2_XXS (16)", "Q4_K"}));
  EXPECT_TRUE(contains(error_of_tensor({256}, 9999, 0, 66), {"\"w\"", "9999"}));
}
TEST(Gguf, MisalignedOffsetNamesTheTensor) {
  EXPECT_TRUE(contains(error_of_tensor({1}, 0, 16, 64), {"\"w\"", "16", "32"}));
}
TEST(Gguf, DataBeyondTheFileNamesTheTensor) {
  EXPECT_TRUE(contains(error_of_tensor({2}, 0, 0, 7), {"\"w\"", "8 bytes", "7 bytes", "copied whole"}));
  EXPECT_TRUE(contains(error_of_tensor({1}, 0, UINT64_MAX - 31, 64), {"\"w\"", "copied whole"}));
}
TEST(Gguf, OverlappingTensorsAreNamed) {
  const std::string bytes = Bytes().header(3, 2, 0).tensor("late", {8}, 0, 32).tensor("early", {9}, 0, 0).pad(32).data(64).text;
  EXPECT_TRUE(contains(error_of(bytes), {"\"late\" overlaps \"early\""}));
}
TEST(Gguf, ShapeIsTheReverseOfTheFiles) {
  const ScratchPath scratch("shape.gguf");
  put_file(scratch.path(), Bytes().header(2, 1, 0).tensor("w", {3, 2}, 0, 0).pad(32).data(24).text);
  const GgufFile file(scratch.path());
  EXPECT_EQ(file.version(), 2u);
  EXPECT_EQ(file.tensor("w").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.tensor("w").num_weights(), 6);
  EXPECT_TRUE(contains(error_from([&] { file.tensor("absent"); }), {"absent", "holds w"}));
}
TEST(Gguf, ValuesAreTakenAsWhatTheyAre) {
  const ScratchPath scratch("values.gguf");
  put_file(scratch.path(), gguf_bytes(3,
                                      {{"small", uint8_t{7}},
                                       {"negative", int32_t{-7}},
                                       {"huge", uint64_t{UINT64_MAX}},
                                       {"fraction", 1.5f},
                                       {"yes", true},
                                       {"text", std::string("t")},
                                       {"texts", std::vector<std::string>{"a", "b"}}},
                                      {}));
  const GgufFile file(scratch.path());
  EXPECT_EQ(file.integer("small"), 7);
  EXPECT_EQ(file.integer("negative"), -7);
  EXPECT_EQ(file.number("fraction"), 1.5);
  EXPECT_EQ(file.number("small"), 7.0);
  EXPECT_EQ(file.text("text"), "t");
  EXPECT_EQ(file.texts("texts").size(), 2u);
  EXPECT_FALSE(file.has_key("absent"));
  EXPECT_TRUE(contains(error_from([&] { file.value("absent"); }), {"values.gguf", "\"absent\"", "missing"}));
  EXPECT_TRUE(contains(error_from([&] { file.integer("huge"); }), {"\"huge\"", "uint64"}));
  EXPECT_TRUE(contains(error_from([&] { file.integer("yes"); }), {"\"yes\"", "bool"}));
  EXPECT_TRUE(contains(error_from([&] { file.number("text"); }), {"\"text\"", "string"}));
  EXPECT_TRUE(contains(error_from([&] { file.text("texts"); }), {"\"texts\"", "array of string"}));
  EXPECT_TRUE(contains(error_from([&] { file.texts("text"); }), {"\"text\"", "no array of strings"}));
}

std::vector<float> values(GgmlType type, const Bytes& blocks) {
  const BlockLayout& layout = block_layout(type);
  std::vector<float> weights(blocks.text.size() / layout.bytes * layout.weights);
  dequantize(type, std::as_bytes(std::span(blocks.text)), weights);
  return weights;
}

constexpr uint16_t kHalfOne = 0x3c00, kHalfTwo = 0x4000;

TEST(GgufBlocks, HalfPrecisionCoversSubnormalsAndInfinities) {
  const Bytes halves = Bytes().number<uint16_t>(0x0001).number<uint16_t>(0x83ff).number<uint16_t>(0x7c00).number<uint16_t>(0xc100);
  const std::vector<float> weights = values(GgmlType::kF16, Bytes(halves).number<uint16_t>(0x8000).number<uint16_t>(0x7e00));
  EXPECT_EQ(weights[0], 0x1p-24f);
  EXPECT_EQ(weights[1], -1023 * 0x1p-24f);
  EXPECT_EQ(weights[2], std::numeric_limits<float>::infinity());
  EXPECT_EQ(weights[3], -2.5f);
  EXPECT_TRUE(weights[4] == 0.0f && std::signbit(weights[4]));
  EXPECT_TRUE(std::isnan(weights[5]));
}
TEST(GgufBlocks, Q4_0HasTheFirstHalfInTheLowBits) {
  const std::vector<float> weights = values(GgmlType::kQ4_0, Bytes().number(kHalfTwo).number(uint8_t{0xf0}).data(15));
  EXPECT_EQ(weights[0], -16.0f);
  EXPECT_EQ(weights[16], 14.0f);
  EXPECT_EQ(weights[1], -14.0f);
}
TEST(GgufBlocks, Q5_1TakesTheFifthBitFromItsOwnWord) {
  const std::vector<float> weights = values(GgmlType::kQ5_1, Bytes().number(kHalfOne).number(kHalfTwo).number(0x80000001u).data(16));
  EXPECT_EQ(weights[0], 19.0f);
  EXPECT_EQ(weights[1], 3.0f);
  EXPECT_EQ(weights[31], 18.0f);
}
TEST(GgufBlocks, Q6_KHasItsScaleAtTheEnd) {
  Bytes block;
  block.text = std::string(192, '\0') + std::string(16, '\2');
  block.number(kHalfOne);
  EXPECT_EQ(values(GgmlType::kQ6_K, block), std::vector<float>(256, -64.0f));
}
TEST(GgufBlocks, BitsPerWeightCountTheScales) {
  EXPECT_EQ(block_layout(GgmlType::kQ4_K).bits_per_weight(), 4.5);
  EXPECT_EQ(block_layout(GgmlType::kQ8_0).bits_per_weight(), 8.5);
}
TEST(GgufBlocks, BlocksThatAreNotWholeAreAnError) {
  std::vector<float> weights(32);
  const std::vector<std::byte> blocks(18);
  EXPECT_TRUE(contains(error_from([&] { dequantize(GgmlType::kQ4_0, std::span(blocks).first(17), weights); }), {"17 bytes", "Q4_0"}));
  EXPECT_TRUE(contains(error_from([&] { dequantize(GgmlType::kQ4_0, blocks, std::span(weights).first(31)); }), {"32 weights", "31"}));
}

template <class T>
rc::Gen<GgufValue> any_of_type() {
  return rc::gen::map(rc::gen::arbitrary<T>(), [](T value) { return GgufValue(std::in_place_type<T>, std::move(value)); });
}

template <class T>
rc::Gen<GgufValue> any_of_type_or_array() {
  return rc::gen::oneOf(any_of_type<T>(), any_of_type<std::vector<T>>());
}

rc::Gen<GgufValue> any_value() {
  return rc::gen::oneOf(any_of_type_or_array<uint8_t>(), any_of_type_or_array<int8_t>(), any_of_type_or_array<uint16_t>(),
                        any_of_type_or_array<int16_t>(), any_of_type_or_array<uint32_t>(), any_of_type_or_array<int32_t>(),
                        any_of_type_or_array<float>(), any_of_type_or_array<bool>(), any_of_type_or_array<std::string>(),
                        any_of_type_or_array<uint64_t>(), any_of_type_or_array<int64_t>(), any_of_type_or_array<double>());
}

constexpr GgmlType kTypes[] = {GgmlType::kF32,  GgmlType::kF16,  GgmlType::kBF16, GgmlType::kQ4_0, GgmlType::kQ4_1,
                               GgmlType::kQ5_0, GgmlType::kQ5_1, GgmlType::kQ8_0, GgmlType::kQ2_K, GgmlType::kQ3_K,
                               GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kQ8_K};

RC_GTEST_PROP(Gguf, WhatIsWrittenIsReadBack, ()) {
  const uint64_t alignment = uint64_t{1} << *rc::gen::inRange(3, 9);
  std::vector<GgufEntry> metadata = {{"general.alignment", static_cast<uint32_t>(alignment)}};
  for (const GgufValue& value : *rc::gen::container<std::vector<GgufValue>>(any_value()))
    metadata.push_back({fmt::format("key.{}", metadata.size()), value});
  const int count = *rc::gen::inRange(0, 6);
  std::vector<std::vector<uint8_t>> contents;
  std::vector<GgufTensor> tensors;
  for (int i = 0; i < count; ++i) {
    const BlockLayout& layout = block_layout(kTypes[*rc::gen::inRange<size_t>(0, std::size(kTypes))]);
    const int64_t rows = *rc::gen::inRange(0, 4), blocks = *rc::gen::inRange(0, 3);
    contents.push_back(*rc::gen::container<std::vector<uint8_t>>(static_cast<size_t>(rows * blocks * layout.bytes),
                                                                 rc::gen::arbitrary<uint8_t>()));
    tensors.push_back({fmt::format("tensor.{}", i), layout.type, {rows, blocks * layout.weights}, {}});
  }
  for (int i = 0; i < count; ++i) tensors[i].data = std::as_bytes(std::span(contents[i]));
  const ScratchPath scratch("round.gguf");
  const std::string bytes = gguf_bytes(*rc::gen::element(2u, 3u), metadata, tensors, alignment);
  put_file(scratch.path(), bytes);
  const GgufFile file(scratch.path());
  RC_ASSERT(file.alignment() == alignment);
  RC_ASSERT(file.metadata().size() == metadata.size());
  for (size_t i = 0; i < metadata.size(); ++i) {
    RC_ASSERT(file.metadata()[i].key == metadata[i].key);
    RC_ASSERT(file.metadata()[i].value == metadata[i].value);
  }
  RC_ASSERT(file.tensors().size() == tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor &got = file.tensors()[i], &wanted = tensors[i];
    RC_ASSERT((got.name == wanted.name && got.type == wanted.type && got.shape == wanted.shape));
    RC_ASSERT(std::equal(got.data.begin(), got.data.end(), wanted.data.begin(), wanted.data.end()));
    RC_ASSERT(static_cast<int64_t>(dequantize(got).size()) == wanted.num_weights());
  }
}

RC_GTEST_PROP(Gguf, TheWriterWritesEveryTypeAndArray, ()) {
  std::vector<GgufEntry> metadata;
  for (const GgufValue& value : *rc::gen::container<std::vector<GgufValue>>(any_value()))
    metadata.push_back({fmt::format("key.{}", metadata.size()), value});
  const std::vector<float> values = {1, -2, 3, 4};
  const std::vector<GgufTensor> tensors = {{"first", GgmlType::kF32, {3}, std::as_bytes(std::span(values).first(3))},
                                           {"second", GgmlType::kF32, {2, 2}, std::as_bytes(std::span(values))}};
  const ScratchPath scratch("written.gguf");
  write_gguf(scratch.path(), metadata, tensors);
  RC_ASSERT(read_file(scratch.path()) == gguf_bytes(3, metadata, tensors));
}

/// The C++ side of gguf_oracle.py: the values of reference/*.gguf into copied/*.safetensors, the metadata into copied/*.json.
TEST(GgufOracle, DISABLED_CopiesTheFilesOfTheFolder) {
  const char* const folder = std::getenv("SEMEME_ORACLE_FOLDER");
  ASSERT_NE(folder, nullptr) << "run tests/formats/gguf_oracle.py";
  const std::filesystem::path from = std::filesystem::path(folder) / "reference", to = std::filesystem::path(folder) / "copied";
  for (const auto& place : std::filesystem::directory_iterator(from)) {
    const GgufFile file(place.path());
    Json entries = Json::array();
    for (const GgufEntry& entry : file.metadata())
      entries.push_back({{"key", entry.key}, {"type", gguf_type_name(entry.value)}, {"value", gguf_to_json(entry.value)}});
    Json types = Json::object();
    std::vector<std::vector<float>> weights;
    std::vector<TensorView> tensors;
    for (const GgufTensor& tensor : file.tensors()) {
      types[tensor.name] = block_layout(tensor.type).name;
      weights.push_back(dequantize(tensor));
      tensors.push_back({tensor.name, DType::kF32, tensor.shape, std::as_bytes(std::span(weights.back()))});
    }
    std::filesystem::path target = to / place.path().filename();
    write_safetensors(target.replace_extension(".safetensors"), tensors);
    write_json(target.replace_extension(".json"), {{"version", file.version()}, {"metadata", entries}, {"types", types}});
  }
}

}  // namespace
}  // namespace sememe
