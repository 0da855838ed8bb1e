#include "sememe/families/encoder_config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "sememe/base/error.h"
#include "sememe/families/family.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

Json small(const std::string& type) {
  return {{"model_type", type},      {"vocab_size", 30},         {"max_position_embeddings", 12}, {"hidden_size", 8},
          {"num_hidden_layers", 1},  {"num_attention_heads", 2}, {"intermediate_size", 10},       {"type_vocab_size", 3}};
}

void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << "no " << word << " in: " << message;
}

TEST(EncoderConfig, SaysWhatTheJsonSays) {
  const EncoderConfig config = encoder_config(small("bert"), "here");
  EXPECT_EQ(config, (EncoderConfig{.vocabulary = 30, .context = 12, .width = 8, .layers = 1, .heads = 2, .feed_forward_width = 10, .token_types = 3}));
}

TEST(EncoderConfig, RobertasPositionsBeginBehindThoseOfPadding) {
  Json json = small("roberta");
  json["pad_token_id"] = 1;
  EXPECT_EQ(encoder_config(json, "here").context, 10);
  EXPECT_EQ(encoder_config(json, "here").position_offset, 2);
  json["pad_token_id"] = 11;
  expect_words(error_from([&] { encoder_config(json, "a/config.json"); }), {"a/config.json", "\"pad_token_id\"", "11"});
}

TEST(EncoderConfig, WhatAnEncoderDoesNotDoIsRefusedByKey) {
  const auto refused = [](const std::string& key, const Json& value) {
    Json json = small("bert");
    json[key] = value;
    expect_words(error_from([&] { encoder_config(json, "a/config.json"); }), {"a/config.json", "\"" + key + "\""});
  };
  refused("model_type", "distilbert");
  refused("hidden_act", "silu");
  refused("position_embedding_type", "relative_key");
  refused("is_decoder", true);
  refused("add_cross_attention", true);
  refused("num_attention_heads", 3);
  refused("num_hidden_layers", 20000);
  refused("layer_norm_eps", 0);
  refused("vocab_size", -1);
  refused("quantization_config", {{"bits", 4}});
}

TEST(EncoderConfig, ALanguageModelIsWhatAnEncoderIsNot) {
  expect_words(error_from([] { config_from_json(small("bert"), "a/config.json"); }), {"a/config.json", "bert", "model embed"});
}

struct EncoderFolder : ::testing::Test {
  EncoderFolder() { fs::create_directories(folder); }
  ~EncoderFolder() override { fs::remove_all(folder); }

  EncoderDescription describe(const std::vector<std::pair<std::string, std::vector<int64_t>>>& tensors, const std::string& type = "bert") {
    std::vector<TensorView> views;
    const std::vector<std::byte> zeros(4 * 240);
    for (const auto& [name, shape] : tensors) {
      int64_t count = 1;
      for (const int64_t size : shape) count *= size;
      views.push_back({name, DType::kF32, shape, std::span(zeros).first(4 * count)});
    }
    write_safetensors(folder / "model.safetensors", views);
    write_json(folder / "config.json", small(type));
    return describe_encoder(WeightFiles(folder));
  }

  static std::vector<std::pair<std::string, std::vector<int64_t>>> tensors() {
    const std::string layer = "encoder.layer.0.";
    return {{"embeddings.word_embeddings.weight", {30, 8}},
            {"embeddings.position_embeddings.weight", {12, 8}},
            {"embeddings.token_type_embeddings.weight", {3, 8}},
            {"embeddings.LayerNorm.weight", {8}},
            {"embeddings.LayerNorm.bias", {8}},
            {layer + "attention.self.query.weight", {8, 8}},
            {layer + "attention.self.query.bias", {8}},
            {layer + "attention.self.key.weight", {8, 8}},
            {layer + "attention.self.key.bias", {8}},
            {layer + "attention.self.value.weight", {8, 8}},
            {layer + "attention.self.value.bias", {8}},
            {layer + "attention.output.dense.weight", {8, 8}},
            {layer + "attention.output.dense.bias", {8}},
            {layer + "attention.output.LayerNorm.weight", {8}},
            {layer + "attention.output.LayerNorm.bias", {8}},
            {layer + "intermediate.dense.weight", {10, 8}},
            {layer + "intermediate.dense.bias", {10}},
            {layer + "output.dense.weight", {8, 10}},
            {layer + "output.dense.bias", {8}},
            {layer + "output.LayerNorm.weight", {8}},
            {layer + "output.LayerNorm.bias", {8}}};
  }

  fs::path folder = fs::temp_directory_path() / ("sememe_encoders_" + std::to_string(::getpid()));
};

TEST_F(EncoderFolder, EachTensorIsOneParameter) {
  std::set<std::string> parameters, found;
  for (const EncoderParameter& parameter : describe(tensors()).parameters) {
    parameters.insert(parameter.name);
    found.insert(parameter.tensor);
  }
  EXPECT_EQ(parameters.size(), tensors().size());
  EXPECT_EQ(found.size(), tensors().size());
  EXPECT_TRUE(parameters.contains("block0.query_bias"));
}

TEST_F(EncoderFolder, NamesUnderTheTypeAndOldNamesOfNormsAreFound) {
  auto named = tensors();
  for (auto& [name, shape] : named) {
    name = "roberta." + name;
    if (name.ends_with("LayerNorm.weight")) name.replace(name.size() - 6, 6, "gamma");
    if (name.ends_with("LayerNorm.bias")) name.replace(name.size() - 4, 4, "beta");
  }
  EXPECT_EQ(describe(named, "roberta").parameters.size(), named.size());
}

TEST_F(EncoderFolder, HeadsAreNotPartOfItAndOtherTensorsAreRefused) {
  auto named = tensors();
  named.push_back({"pooler.dense.weight", {8, 8}});
  named.push_back({"cls.predictions.bias", {30}});
  EXPECT_EQ(describe(named).parameters.size(), named.size() - 2);
  named.push_back({"encoder.layer.0.adapter.weight", {8, 8}});
  expect_words(error_from([&] { describe(named); }), {"model.safetensors", "encoder.layer.0.adapter.weight", "not supported"});
}

TEST_F(EncoderFolder, AMissingTensorAndOneOfAnotherShapeAreNamed) {
  auto named = tensors();
  named[2].second = {2, 8};
  expect_words(error_from([&] { describe(named); }), {"embeddings.token_type_embeddings.weight", "[2, 8]", "[3, 8]"});
  named.erase(named.begin() + 2);
  expect_words(error_from([&] { describe(named); }), {"model.safetensors", "embeddings.token_type_embeddings.weight"});
}

TEST_F(EncoderFolder, IsKnownByItsConfig) {
  EXPECT_FALSE(is_encoder_folder(folder));
  write_json(folder / "config.json", small("roberta"));
  EXPECT_TRUE(is_encoder_folder(folder));
  write_json(folder / "config.json", {{"model_type", "llama"}});
  EXPECT_FALSE(is_encoder_folder(folder));
}

}  // namespace
}  // namespace sememe
