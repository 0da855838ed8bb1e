#include "sememe/language/encoder.h"

#include <gtest/gtest.h>

#include "sememe/language/sentence_encoder.h"
#include "tests/language/small_encoder.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;
using testing::expect_words;
using testing::message_of;
using testing::small_bert;
using testing::small_bert_tensors;
using testing::write_small_bert;

struct SmallEncoder : testing::WithFolder {
  SmallEncoder() { write_small_bert(folder); }

  torch::Tensor run(const torch::Tensor& ids) {
    torch::NoGradGuard no_grad;
    NoVisitor nobody;
    return SentenceEncoder::load(folder).network->forward({ids, {}}, nobody);
  }
  void write(const char* name, const Json& json) {
    fs::create_directories((folder / name).parent_path());
    write_json(folder / name, json);
  }
  /// As sentence-transformers writes them.
  void write_modules(bool normalize, const Json& pooling) {
    Json modules = Json::array({{{"path", ""}, {"type", "sentence_transformers.models.Transformer"}},
                                {{"path", "1_Pooling"}, {"type", "sentence_transformers.models.Pooling"}}});
    if (normalize) modules.push_back({{"path", "2_Normalize"}, {"type", "sentence_transformers.models.Normalize"}});
    write("modules.json", modules);
    write("1_Pooling/config.json", pooling);
  }
  std::string refusal() {
    return message_of([&] { SentenceEncoder::load(folder); });
  }
};

const torch::Tensor kText = torch::tensor({{2, 5, 6, 7, 3}});

TEST_F(SmallEncoder, PaddingChangesNothing) {
  const torch::Tensor padded = torch::tensor({{2, 5, 6, 7, 3, -1, -1}, {2, 9, 8, 7, 6, 5, 3}});
  EXPECT_TRUE(torch::allclose(run(padded)[0].narrow(0, 0, 5), run(kText)[0], 1e-5, 1e-6));
}

TEST_F(SmallEncoder, EveryTokenSeesThoseBehindIt) {
  torch::Tensor other = kText.clone();
  other[0][3] = 11;
  EXPECT_GT((run(other) - run(kText))[0][0].abs().max().item<float>(), 1e-3);
}

TEST_F(SmallEncoder, SitesAreVisitedInTheirOrderAndReplaced) {
  struct Change : SiteVisitor {
    std::vector<std::string> seen;
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      seen.push_back(site.name);
      EXPECT_EQ(value.size(-1), site.width);
      return site.name == "blocks.1.output" ? value + 1 : value;
    }
  } visitor;
  const SentenceEncoder encoder = SentenceEncoder::load(folder);
  torch::NoGradGuard no_grad;
  const torch::Tensor changed = encoder.network->forward({kText, {}}, visitor);
  std::vector<std::string> names;
  for (const Site& site : encoder.network->sites()) names.push_back(site.name);
  EXPECT_EQ(visitor.seen, names);
  EXPECT_EQ(names.size(), 11u);
  EXPECT_TRUE(torch::allclose(changed, run(kText) + 1));
}

TEST_F(SmallEncoder, APassEndsBehindTheLastSiteWanted) {
  struct Stop : SiteVisitor {
    int visits = 0;
    torch::Tensor visit(const Site&, torch::Tensor value) override { return ++visits, value; }
    bool finished() const override { return visits == 4; }
  } visitor;
  EXPECT_FALSE(SentenceEncoder::load(folder).network->forward({kText, {}}, visitor).defined());
  EXPECT_EQ(visitor.visits, 4);
}

TEST_F(SmallEncoder, TooManyTokensAndALossAreErrors) {
  expect_words(message_of([&] { run(torch::zeros({1, 13}, torch::kInt64)); }), {"13 tokens", "12"});
  expect_words(message_of([&] { Encoder(EncoderConfig{}).loss({}, {}); }), {"no loss"});
}

TEST_F(SmallEncoder, EmbeddingsAreTheMeanOverAllTokensInTheOrderOfTheTexts) {
  const SentenceEncoder encoder = SentenceEncoder::load(folder);
  const std::vector<std::string> texts = {"a b c d", "", "a b", "c d a b e f", "a b"};
  for (const int64_t batch_tokens : {1, 9, 1000}) {
    const Embeddings embeddings = encoder.embed(texts, batch_tokens);
    EXPECT_EQ(embeddings.shortened, 0);
    torch::Tensor expected = run(torch::tensor({{2, 5, 6, 3}})).mean(1)[0];
    expected = expected / expected.norm();
    EXPECT_TRUE(torch::allclose(embeddings.rows[2], expected, 1e-5, 1e-6));
    EXPECT_TRUE(torch::allclose(embeddings.rows[4], expected, 1e-5, 1e-6));
    EXPECT_TRUE(torch::allclose(embeddings.rows.norm(2, 1), torch::ones({5})));
  }
}

TEST_F(SmallEncoder, WhatStandsBehindTheContextIsLeftOutAndCounted) {
  SentenceEncoder encoder = SentenceEncoder::load(folder);
  encoder.context = 5;
  const std::vector<std::string> texts = {"a b c", "a b c d e"};
  const Embeddings embeddings = encoder.embed(texts);
  EXPECT_EQ(embeddings.shortened, 1);
  EXPECT_TRUE(torch::allclose(embeddings.rows[0], embeddings.rows[1], 1e-5, 1e-6));
}

TEST_F(SmallEncoder, PoolsAsItsModulesSay) {
  const std::vector<std::string> texts = {"a b"};
  const torch::Tensor tokens = run(torch::tensor({{2, 5, 6, 3}}))[0];
  write_modules(false, {{"pooling_mode_mean_tokens", true}, {"pooling_mode_cls_token", false}});
  EXPECT_TRUE(torch::allclose(SentenceEncoder::load(folder).embed(texts).rows[0], tokens.mean(0), 1e-5, 1e-6));
  write_modules(false, {{"pooling_mode_mean_tokens", false}, {"pooling_mode_cls_token", true}});
  EXPECT_TRUE(torch::allclose(SentenceEncoder::load(folder).embed(texts).rows[0], tokens[0], 1e-5, 1e-6));
  write_modules(true, {{"pooling_mode", "cls"}, {"embedding_dimension", 8}});
  EXPECT_TRUE(torch::allclose(SentenceEncoder::load(folder).embed(texts).rows[0], tokens[0] / tokens[0].norm(), 1e-5, 1e-6));
}

TEST_F(SmallEncoder, PoolingThatIsNotDoneIsRefusedByKey) {
  write_modules(true, {{"pooling_mode_mean_tokens", true}, {"pooling_mode_max_tokens", true}});
  expect_words(refusal(), {"1_Pooling/config.json", "\"pooling_mode_max_tokens\""});
  write_modules(true, {{"pooling_mode_mean_tokens", true}, {"pooling_mode_cls_token", true}});
  expect_words(refusal(), {"1_Pooling/config.json", "\"pooling_mode_cls_token\""});
  write_modules(true, {{"pooling_mode", "lasttoken"}});
  expect_words(refusal(), {"1_Pooling/config.json", "\"pooling_mode\"", "lasttoken"});
  write_modules(true, {{"pooling_mode", "mean"}, {"word_embedding_dimension", 9}});
  expect_words(refusal(), {"1_Pooling/config.json", "\"word_embedding_dimension\""});
  write("modules.json", Json::array({{{"path", ""}, {"type", "sentence_transformers.models.Transformer"}},
                                     {{"path", "1_Dense"}, {"type", "sentence_transformers.models.Dense"}}}));
  expect_words(refusal(), {"modules.json", "Dense"});
}

TEST_F(SmallEncoder, TheContextIsThatOfItsSettings) {
  write("sentence_bert_config.json", {{"max_seq_length", 6}, {"do_lower_case", false}});
  EXPECT_EQ(SentenceEncoder::load(folder).text_context(), 6);
  write("sentence_bert_config.json", {{"max_seq_length", 600}});
  EXPECT_EQ(SentenceEncoder::load(folder).text_context(), 12);
  write("sentence_bert_config.json", {{"transformer_task", "feature-extraction"}});
  write("tokenizer_config.json", {{"model_max_length", 7}});
  EXPECT_EQ(SentenceEncoder::load(folder).text_context(), 7);
  write("tokenizer_config.json", {{"model_max_length", 1e30}});
  EXPECT_EQ(SentenceEncoder::load(folder).text_context(), 12);
  write("sentence_bert_config.json", {{"max_seq_length", 6}, {"do_lower_case", true}});
  expect_words(refusal(), {"sentence_bert_config.json", "do_lower_case"});
  write("sentence_bert_config.json", {{"max_seq_length", 2}});
  expect_words(refusal(), {"2 tokens"});
}

TEST_F(SmallEncoder, APromptBeforeEveryTextIsRefused) {
  write("config_sentence_transformers.json", {{"prompts", {{"query", "query: "}}}, {"default_prompt_name", nullptr}});
  SentenceEncoder::load(folder);
  write("config_sentence_transformers.json", {{"prompts", {{"query", "query: "}}}, {"default_prompt_name", "query"}});
  expect_words(refusal(), {"config_sentence_transformers.json", "\"default_prompt_name\"", "query"});
}

TEST_F(SmallEncoder, AFolderThatLacksAFileOrHasATokenizerOfAnotherModelIsRefused) {
  fs::remove(folder / "vocab.txt");
  expect_words(refusal(), {"tokenizer.json"});
  testing::byte_tokenizer().save(folder / "tokenizer.json");
  expect_words(refusal(), {"config.json", "257", "30"});
  fs::remove(folder / "model.safetensors");
  expect_words(refusal(), {"model.safetensors"});
  fs::remove(folder / "config.json");
  expect_words(refusal(), {"config.json"});
}

}  // namespace
}  // namespace sememe
