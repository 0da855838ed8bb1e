#include "sememe/formats/npy.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>

#include <cstring>

#include "tests/formats/error_text.h"

namespace sememe {
namespace {

struct Scratch {
  Scratch() : folder(std::filesystem::temp_directory_path() / fmt::format("npy_test-{}", getpid())) {
    std::filesystem::create_directories(folder);
  }
  ~Scratch() { std::filesystem::remove_all(folder); }
  std::filesystem::path folder;
};

std::string npy(const std::string& header, size_t data_bytes, char version = 1) {
  std::string bytes = std::string("\x93NUMPY") + version + '\0';
  uint32_t length = static_cast<uint32_t>(header.size());
  bytes.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return bytes + header + std::string(data_bytes, '\0');
}

std::string error_of(const std::string& bytes) {
  const Scratch scratch;
  const auto path = scratch.folder / "bad.npy";
  write_file(path, bytes);
  const std::string message = error_from([&] { NpyFile file(path); });
  if (message != "no error") EXPECT_TRUE(contains(message, {path.filename().string()}));
  return message;
}

std::string header(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

TEST(Npy, OtherFileIsAnError) {
  EXPECT_TRUE(contains(error_of("PK\3\4 something"), {"not a NumPy"}));
}
TEST(Npy, EmptyFileIsAnError) {
  EXPECT_TRUE(contains(error_of(""), {"not a NumPy"}));
}
TEST(Npy, TruncatedHeaderIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(2,)"), 8).substr(0, 30)), {"copied whole"}));
}
TEST(Npy, TruncatedDataIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(2,)"), 7)), {"needs 8 bytes"}));
}
TEST(Npy, TrailingBytesAreAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(2,)"), 9)), {"holds 9"}));
}
TEST(Npy, UnknownVersionIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(2,)"), 8, 9)), {"version 9"}));
}
TEST(Npy, FortranOrderIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "True", "(2, 2)"), 16)), {"ascontiguousarray"}));
}
TEST(Npy, BigEndianIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header(">f4", "False", "(2,)"), 8)), {"big-endian"}));
}
TEST(Npy, ObjectsAreAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("|O", "False", "(2,)"), 16)), {"cannot be read"}));
}
TEST(Npy, RecordsAreAnError) {
  EXPECT_TRUE(
      contains(error_of(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }\n", 8)), {"records"}));
}
TEST(Npy, OverflowingShapeIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(4294967296, 4294967296)"), 0)), {"63 bits"}));
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(99999999999999999999,)"), 0)), {"63 bits"}));
}
TEST(Npy, NegativeDimensionIsAnError) {
  EXPECT_TRUE(contains(error_of(npy(header("<f4", "False", "(-2,)"), 8)), {"natural number"}));
}
TEST(Npy, MissingKeyIsAnError) {
  EXPECT_TRUE(contains(error_of(npy("{'descr': '<f4'}\n", 8)), {"missing"}));
}
TEST(Npy, RepeatedKeyIsAnError) {
  EXPECT_TRUE(contains(error_of(npy("{'descr': '<f4', 'descr': '<f4'}\n", 8)), {"repeated"}));
}

TEST(Npy, VersionsOneToThreeAreRead) {
  for (const char version : {1, 2, 3})
    EXPECT_EQ(error_of(npy(header("<f4", "False", "(2, 1)"), 8, version)), "no error");
}

TEST(Npy, WriterRefusesPartOfARow) {
  const Scratch scratch;
  NpyWriter writer(scratch.folder / "x.npy", 3);
  const std::vector<float> values(4);
  EXPECT_THROW(writer.write(values), Error);
}

TEST(Npy, NothingIsLeftWithoutCommit) {
  const Scratch scratch;
  {
    NpyWriter writer(scratch.folder / "x.npy", 3);
  }
  EXPECT_TRUE(std::filesystem::is_empty(scratch.folder));
}

RC_GTEST_PROP(Npy, WhatIsWrittenIsReadBack, (std::vector<float> values)) {
  const Scratch scratch;
  values.resize(values.size() / 3 * 3);
  NpyWriter writer(scratch.folder / "x.npy", 3);
  writer.write(values);
  writer.commit();
  const NpyFile file(scratch.folder / "x.npy");
  RC_ASSERT(file.dtype() == DType::kF32);
  RC_ASSERT(file.shape() == (std::vector<int64_t>{static_cast<int64_t>(values.size()) / 3, 3}));
  RC_ASSERT(file.data().size() == values.size() * 4);
  RC_ASSERT((values.empty() || std::memcmp(file.data().data(), values.data(), file.data().size()) == 0));
}

}  // namespace
}  // namespace sememe
