#include "sememe/formats/llama2c.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/formats/error_text.h"
#include "tests/formats/llama2c_bytes.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

constexpr Llama2cSizes kSmall{.width = 8, .hidden_width = 12, .layers = 2, .heads = 4, .key_value_heads = 2, .vocabulary = 5, .context = 6};

std::string error_of(const std::string& bytes) {
  const ScratchPath scratch("model.bin");
  put_file(scratch.path(), bytes);
  const std::string message = error_from([&] { Llama2cFile file(scratch.path()); });
  if (message != "no error") EXPECT_TRUE(contains(message, {"model.bin"}));
  return message;
}

std::string with(Llama2cSizes sizes) { return llama2c_header(sizes) + std::string(1000, '\0'); }

TEST(Llama2c, HasEachTensorInItsPlace) {
  const ScratchPath scratch("model.bin");
  put_file(scratch.path(), llama2c_bytes(kSmall));
  const Llama2cFile file(scratch.path());
  EXPECT_EQ(file.sizes(), kSmall);
  EXPECT_EQ(file.tensors().size(), 2u + 2 * 9);
  const auto first = [&](const char* name) {
    float value;
    std::memcpy(&value, file.tensor(name).data.data(), sizeof value);
    return value;
  };
  const auto weight = [](int i) { return static_cast<float>(std::sin(static_cast<double>(i)) / 2); };
  EXPECT_EQ(first("tok_embeddings.weight"), weight(0));
  EXPECT_EQ(first("layers.1.attention_norm.weight"), weight(40 + 8));
  EXPECT_EQ(first("layers.0.attention.wq.weight"), weight(40 + 16));
  EXPECT_EQ(first("layers.1.attention.wk.weight"), weight(40 + 16 + 128 + 32));
  EXPECT_EQ(first("layers.0.ffn_norm.weight"), weight(40 + 16 + 128 + 64 + 64 + 128));
  EXPECT_EQ(first("layers.0.feed_forward.w2.weight"), weight(440 + 16 + 2 * 96));
  EXPECT_EQ(first("norm.weight"), weight(440 + 16 + 6 * 96));
  EXPECT_EQ(file.tensor("layers.0.feed_forward.w2.weight").shape, (std::vector<int64_t>{8, 12}));
  EXPECT_TRUE(contains(error_from([&] { file.tensor("output.weight"); }), {"model.bin", "output.weight"}));
}

TEST(Llama2c, AHeadOfItsOwnStandsBehindTheTablesOfPositions) {
  Llama2cSizes untied = kSmall;
  untied.tied_head = false;
  const ScratchPath scratch("model.bin");
  put_file(scratch.path(), llama2c_bytes(untied));
  const Llama2cFile file(scratch.path());
  EXPECT_FALSE(file.sizes().tied_head);
  float value;
  std::memcpy(&value, file.tensor("output.weight").data.data(), sizeof value);
  EXPECT_EQ(value, static_cast<float>(std::sin(440.0 + 16 + 6 * 96 + 8 + 6 * 2) / 2));
}

TEST(Llama2c, AFileOfAnotherLengthSaysBoth) {
  const std::string whole = llama2c_bytes(kSmall);
  EXPECT_EQ(error_of(whole), "no error");
  for (const std::string& wrong : {whole.substr(0, whole.size() - 4), whole + "x", whole.substr(0, 28)})
    EXPECT_TRUE(contains(error_of(wrong), {std::to_string(whole.size()), std::to_string(wrong.size()), "copied whole"}));
  for (const size_t length : {0, 1, 27}) EXPECT_TRUE(contains(error_of(whole.substr(0, length)), {"no checkpoint of llama2.c"}));
}

TEST(Llama2c, SizesThatCannotBeAreNamed) {
  Llama2cSizes sizes = kSmall;
  sizes.width = 0;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"dim", "0"}));
  sizes = kSmall, sizes.vocabulary = 0;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"vocab_size"}));
  sizes = kSmall, sizes.vocabulary = -int64_t{INT32_MIN}, sizes.tied_head = false;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"vocab_size"}));
  sizes = kSmall, sizes.layers = 20000;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"n_layers"}));
  sizes = kSmall, sizes.heads = 3;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"dim (8)", "n_heads (3)"}));
  sizes = kSmall, sizes.heads = 8;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"even"}));
  sizes = kSmall, sizes.key_value_heads = 3;
  EXPECT_TRUE(contains(error_of(with(sizes)), {"n_kv_heads (3)"}));
  sizes = {INT32_MAX - 1, INT32_MAX, 10000, 1, 1, INT32_MAX, INT32_MAX, true};
  EXPECT_TRUE(contains(error_of(with(sizes)), {"copied whole"}));
}

TEST(Llama2c, LaterVersionsAreRefusedByTheirNumber) {
  std::string bytes;
  append_number(bytes, int32_t{0x616b3432});
  append_number(bytes, int32_t{2});
  EXPECT_TRUE(contains(error_of(bytes + std::string(300, '\0')), {"version 2"}));
}

}  // namespace
}  // namespace sememe
