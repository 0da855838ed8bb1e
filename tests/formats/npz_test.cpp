#include "sememe/formats/npz.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "tests/formats/error_text.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

TensorView view(const std::string& name, const std::vector<int64_t>& shape, const std::vector<float>& values) {
  return {name, DType::kF32, shape, std::as_bytes(std::span(values))};
}

RC_GTEST_PROP(Npz, WhatIsWrittenIsReadBack, ()) {
  const auto shape = *rc::gen::container<std::vector<int64_t>>(*rc::gen::inRange<size_t>(0, 4), rc::gen::inRange<int64_t>(0, 4));
  int64_t elements = 1;
  for (const int64_t dimension : shape) elements *= dimension;
  const auto values = *rc::gen::container<std::vector<float>>(elements, rc::gen::arbitrary<float>());
  const ScratchPath scratch("x.npz");
  write_npz(scratch.path(), std::vector{view("b", shape, values), view("a", {}, {1.0f})});
  const NpzFile file(scratch.path());
  RC_ASSERT(file.tensors().size() == 2u);
  RC_ASSERT((file.tensors()[0].name == "a" && file.tensors()[0].shape.empty()));
  RC_ASSERT(file.tensors()[1].shape == shape);
  RC_ASSERT(file.tensors()[1].data.size() == values.size() * 4);
  RC_ASSERT((values.empty() || std::memcmp(file.tensors()[1].data.data(), values.data(), values.size() * 4) == 0));
}

/// What reading says of an archive with this one entry.
std::string error_of(const std::string& name, const std::string& content) {
  const ScratchPath scratch("bad.npz");
  ZipWriter writer(scratch.path());
  writer.add(name, std::as_bytes(std::span(content.data(), content.size())));
  writer.commit();
  return error_from([&] { NpzFile file(scratch.path()); });
}

TEST(Npz, AnEntryThatIsNoArrayIsNamed) {
  EXPECT_TRUE(contains(error_of("W_enc.txt", "hello"), {"bad.npz", "W_enc.txt"}));
  EXPECT_TRUE(contains(error_of("W_enc.npy", "hello"), {"bad.npz", "W_enc.npy", "not a NumPy"}));
}

TEST(Npz, ArraysStoredByColumnsAreTurned) {
  const std::string text = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n";
  std::string content = std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(text.size()) + '\0' + text;
  const float by_columns[] = {1, 4, 2, 5, 3, 6};
  content.append(reinterpret_cast<const char*>(by_columns), sizeof by_columns);
  const ScratchPath scratch("x.npz");
  ZipWriter writer(scratch.path());
  writer.add("a.npy", std::as_bytes(std::span(content.data(), content.size())));
  writer.commit();
  const NpzFile file(scratch.path());
  const float by_rows[] = {1, 2, 3, 4, 5, 6};
  ASSERT_EQ(file.tensors()[0].data.size(), sizeof by_rows);
  EXPECT_EQ(std::memcmp(file.tensors()[0].data.data(), by_rows, sizeof by_rows), 0);
}

TEST(Npz, ElementsThatNumPyLacksAreRefused) {
  const ScratchPath scratch("x.npz");
  const TensorView half{"a", DType::kBF16, {0}, {}};
  EXPECT_TRUE(contains(error_from([&] { write_npz(scratch.path(), std::span(&half, 1)); }), {"BF16"}));
}

}  // namespace
}  // namespace sememe
