#include "sememe/formats/safetensors.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <cstring>

#include "tests/formats/error_text.h"

namespace sememe {
namespace {

struct Scratch {
  Scratch() : folder(std::filesystem::temp_directory_path() / fmt::format("safetensors_test-{}", getpid())) {
    std::filesystem::create_directories(folder);
  }
  ~Scratch() { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
};

std::string with_header(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

std::string error_of(const std::string& bytes) {
  const Scratch scratch;
  const auto path = scratch.folder / "bad.safetensors";
  write_file(path, bytes);
  const std::string message = error_from([&] { SafetensorsFile file(path); });
  if (message != "no error") EXPECT_TRUE(contains(message, {path.filename().string()}));
  return message;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(Safetensors, EmptyFileIsAnError) {
  EXPECT_TRUE(contains(error_of(""), {"too few"}));
}
TEST(Safetensors, HeaderLongerThanTheFileIsAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{}", 0).substr(0, 9)), {"only 1 follow"}));
}
TEST(Safetensors, HugeHeaderIsAnErrorBeforeAnythingIsAllocated) {
  EXPECT_TRUE(contains(error_of(std::string(8, '\xff') + "{}"), {"more than 100000000"}));
}
TEST(Safetensors, HeaderThatIsNotJsonIsAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{\"a\":", 0)), {"not JSON"}));
}
TEST(Safetensors, HeaderThatDoesNotBeginWithABraceIsAnError) {
  EXPECT_TRUE(contains(error_of(with_header(" {}", 0)), {"does not begin"}));
}
TEST(Safetensors, DuplicateKeyIsNamed) {
  const std::string one = tensor("twin", "U8", "[0]", "[0,0]");
  EXPECT_TRUE(contains(error_of(with_header("{" + one + "," + one + "}", 0)), {"twin", "twice"}));
}
TEST(Safetensors, UnknownTypeIsNamed) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F31", "[1]", "[0,4]") + "}", 4)), {"\"w\"", "F31"}));
}
TEST(Safetensors, NegativeDimensionIsAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F32", "[-1]", "[0,4]") + "}", 4)), {"\"w\"", "-1"}));
}
TEST(Safetensors, FractionalDimensionIsAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F32", "[1.5]", "[0,4]") + "}", 4)), {"natural number"}));
}
TEST(Safetensors, OverflowingShapeIsAnErrorEvenBesideAZero) {
  const std::string shape = "[0,4294967296,4294967296]";
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F32", shape, "[0,0]") + "}", 0)), {"63 bits"}));
}
TEST(Safetensors, OffsetsBeyondTheFileAreAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F32", "[2]", "[0,8]") + "}", 4)), {"copied whole"}));
}
TEST(Safetensors, OffsetsThatRunBackwardsAreAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F32", "[1]", "[8,4]") + "}", 8)), {"ends before"}));
}
TEST(Safetensors, OffsetsThatDoNotFitTheShapeAreAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("w", "F32", "[2]", "[0,4]") + "}", 4)), {"need 8"}));
}
TEST(Safetensors, OverlappingTensorsAreAnError) {
  const std::string both = tensor("a", "F32", "[1]", "[0,4]") + "," + tensor("b", "F32", "[1]", "[2,6]");
  EXPECT_TRUE(contains(error_of(with_header("{" + both + "}", 6)), {"\"b\"", "overlaps"}));
}
TEST(Safetensors, HoleBetweenTensorsIsAnError) {
  const std::string both = tensor("a", "F32", "[1]", "[0,4]") + "," + tensor("b", "F32", "[1]", "[6,10]");
  EXPECT_TRUE(contains(error_of(with_header("{" + both + "}", 10)), {"2 bytes before"}));
}
TEST(Safetensors, BytesAfterTheLastTensorAreAnError) {
  EXPECT_TRUE(contains(error_of(with_header("{" + tensor("a", "F32", "[1]", "[0,4]") + "}", 5)), {"1 bytes after"}));
}
TEST(Safetensors, MetadataThatIsNoStringIsAnError) {
  EXPECT_TRUE(contains(error_of(with_header(R"({"__metadata__":{"k":1}})", 0)), {"not a string"}));
}
TEST(Safetensors, MissingTensorErrorListsWhatThereIs) {
  const Scratch scratch;
  const auto path = scratch.folder / "ok.safetensors";
  write_file(path, with_header("{" + tensor("present", "U8", "[3]", "[0,3]") + "}", 3));
  const SafetensorsFile file(path);
  EXPECT_TRUE(file.contains("present"));
  EXPECT_TRUE(contains(error_from([&] { file.tensor("absent"); }), {"absent", "present"}));
}
TEST(Safetensors, ElementsSmallerThanAByteAreCountedInBits) {
  EXPECT_EQ(error_of(with_header("{" + tensor("w", "F4", "[4]", "[0,2]") + "}", 2)), "no error");
  EXPECT_EQ(error_of(with_header("{" + tensor("w", "F6_E2M3", "[4]", "[0,3]") + "}", 3)), "no error");
  EXPECT_TRUE(
      contains(error_of(with_header("{" + tensor("w", "F4", "[3]", "[0,2]") + "}", 2)), {"\"w\"", "whole bytes"}));
}
TEST(Safetensors, WritingANameTwiceLeavesNoFile) {
  const Scratch scratch;
  const auto path = scratch.folder / "never.safetensors";
  const std::vector<TensorView> twice = {{"a", DType::kU8, {0}, {}}, {"a", DType::kU8, {0}, {}}};
  EXPECT_THROW(write_safetensors(path, twice), Error);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.folder));
}

TEST(Safetensors, DataGivenInPartsThatDoNotFillTheShapeLeaveNoFile) {
  const Scratch scratch;
  const auto path = scratch.folder / "parts.safetensors";
  const std::vector<TensorView> headers = {{"a", DType::kU8, {5}, {}}, {"b", DType::kU8, {2}, {}}};
  const std::vector<std::byte> bytes(5, std::byte{3});
  const auto write_parts = [&](size_t of_the_second) {
    write_safetensors(path, headers, [&](size_t index, const auto& write) {
      write(std::span(bytes).first(index == 0 ? 2 : of_the_second));
      if (index == 0) write(std::span(bytes).first(3));
    });
  };
  for (const size_t wrong : {1, 3}) {
    EXPECT_THROW(write_parts(wrong), Error);
    EXPECT_TRUE(std::filesystem::is_empty(scratch.folder));
  }
  write_parts(2);
  EXPECT_EQ(SafetensorsFile(path).tensor("b").data.size(), 2U);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), SafetensorsFile(path).tensor("a").data.begin()));
}

RC_GTEST_PROP(Safetensors, WhatIsWrittenIsReadBack, (const std::vector<std::vector<uint8_t>>& contents)) {
  const Scratch scratch;
  const auto path = scratch.folder / "round.safetensors";
  std::vector<TensorView> tensors;
  for (const auto& content : contents)
    tensors.push_back({fmt::format("t{}", tensors.size()),
                       DType::kU8,
                       {static_cast<int64_t>(content.size())},
                       std::as_bytes(std::span(content))});
  write_safetensors(path, tensors, {{"key", "välue"}});
  const SafetensorsFile file(path);
  RC_ASSERT(file.tensors().size() == tensors.size());
  RC_ASSERT(file.metadata().at("key") == "välue");
  for (const TensorView& wanted : tensors) {
    const TensorView& got = file.tensor(wanted.name);
    RC_ASSERT(got.shape == wanted.shape);
    RC_ASSERT(std::equal(got.data.begin(), got.data.end(), wanted.data.begin(), wanted.data.end()));
  }
}

}  // namespace
}  // namespace sememe
