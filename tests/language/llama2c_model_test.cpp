#include "sememe/language/llama2c_model.h"

#include <gtest/gtest.h>

#include "tests/formats/llama2c_bytes.h"
#include "tests/formats/scratch_path.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

using testing::expect_words;
using testing::message_of;

constexpr Llama2cSizes kSmall{.width = 8, .hidden_width = 12, .layers = 2, .heads = 4, .key_value_heads = 2, .vocabulary = 266, .context = 16};

struct Llama2cModel : testing::WithFolder {
  Llama2cModel() {
    put_file(place, llama2c_bytes(kSmall));
    put_file(folder / "tokenizer.bin", llama2c_tokenizer_bytes(llama2c_tokens()));
  }
  torch::Tensor logits_of(const LanguageModel& model) {
    torch::NoGradGuard no_grad;
    NoVisitor nobody;
    return model.network->forward({testing::some_tokens(2, 9, 266), {}}, nobody);
  }
  std::filesystem::path place = folder / "model.bin";
};

// What it computes, llama2c_oracle.py checks.

TEST_F(Llama2cModel, TakesTheTokenizerBesideItOrTheOneGiven) {
  EXPECT_EQ(LanguageModel::load(place).tokenizer.encode("b"), (std::vector<int32_t>{265, 264}));
  std::filesystem::rename(folder / "tokenizer.bin", folder / "other.bin");
  expect_words(message_of([&] { LanguageModel::load(place); }), {"model.bin", "tokenizer.bin", "--tokenizer"});
  EXPECT_EQ(LanguageModel::load(place, Precision::kFile, folder / "other.bin").tokenizer.size(), 266);
}

TEST_F(Llama2cModel, ATokenizerOfAnotherModelIsRefused) {
  auto tokens = llama2c_tokens();
  tokens.pop_back();
  put_file(folder / "tokenizer.bin", llama2c_tokenizer_bytes(tokens));
  expect_words(message_of([&] { LanguageModel::load(place); }), {"model.bin", "tokenizer.bin", "265", "266"});
}

TEST_F(Llama2cModel, SavedAsAFolderItIsTheSameNetwork) {
  const LanguageModel model = LanguageModel::load(place);
  model.save(folder / "saved");
  const LanguageModel saved = LanguageModel::load(folder / "saved");
  EXPECT_TRUE(logits_of(saved).equal(logits_of(model)));
  EXPECT_EQ(saved.tokenizer.encode("abba b"), model.tokenizer.encode("abba b"));
  EXPECT_EQ(saved.tokenizer.ends(), model.tokenizer.ends());
  EXPECT_EQ(saved.tokenizer.opening(), model.tokenizer.opening());
  expect_words(message_of([&] { LanguageModel::load(folder / "saved", Precision::kFloat32, folder / "tokenizer.bin"); }), {"--tokenizer", "of its own"});
}

TEST_F(Llama2cModel, WeightsThatAreNotFiniteAreRefused) {
  std::string bytes = llama2c_bytes(kSmall);
  const float infinite = std::numeric_limits<float>::infinity();
  std::memcpy(bytes.data() + 28 + 4 * 100, &infinite, 4);
  put_file(place, bytes);
  expect_words(message_of([&] { LanguageModel::load(place); }), {"model.bin", "tok_embeddings.weight"});
}

TEST_F(Llama2cModel, AContextTooShortForAnyTextIsNoCrash) {
  Llama2cSizes tiny = kSmall;
  tiny.context = 1;
  put_file(place, llama2c_bytes(tiny));
  EXPECT_EQ(LanguageModel::load(place).network->config().context, 1);
}

}  // namespace
}  // namespace sememe
