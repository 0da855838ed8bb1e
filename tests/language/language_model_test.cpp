#include "sememe/language/language_model.h"

#include <gtest/gtest.h>

#include <limits>

#include "sememe/base/files.h"
#include "sememe/network/tensors.h"
#include "tests/language/small_model.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;
using testing::expect_words;
using testing::message_of;
using testing::small_gpt2;
using testing::small_llama;
using testing::small_tokenizer;
using testing::small_transformer;
using testing::some_tokens;

std::vector<TransformerConfig> configs() {
  TransformerConfig untied_llama = small_llama(), biased_llama = small_llama(), untied_gpt2 = small_gpt2();
  untied_llama.tied_head = untied_gpt2.tied_head = false;
  untied_llama.head_width = 6;  // not width / heads
  untied_llama.rotary_base = 500;
  untied_llama.norm_epsilon = 1e-3;
  biased_llama.bias = true;
  return {small_llama(), untied_llama, biased_llama, small_gpt2(), untied_gpt2};
}

/// Random also where initialize() leaves ones and zeros.
LanguageModel model_of(const TransformerConfig& config) {
  torch::NoGradGuard no_grad;
  const auto network = small_transformer(config, 11);
  for (torch::Tensor& parameter : network->parameters())
    if (parameter.dim() == 1) parameter.add_((torch::arange(parameter.numel(), torch::kFloat32) * 1.7).sin() * 0.1);
  return {network, small_tokenizer(), {}};
}

torch::Tensor logits_of(const LanguageModel& model) {
  torch::NoGradGuard no_grad;
  SiteVisitor nobody;
  return model.network->forward({some_tokens(2, 9, 300), {}}, nobody);
}

struct Bundle : testing::WithFolder {
  /// Saves a model, changes its config.json, and gives the message with which loading fails.
  std::string message_with(const TransformerConfig& config, const std::string& key, const Json& value) {
    model_of(config).save(place);
    Json json = read_json(place / "config.json");
    json[key] = value;
    write_json(place / "config.json", json);
    return message_of([&] { LanguageModel::load(place); });
  }

  /// Expects that a config.json with `key` changed, or erased, is refused with a message that names file and key.
  static void refuses(const TransformerConfig& config, const std::string& key, const Json& value) {
    Json json = config_to_json(config, small_tokenizer(), torch::kFloat32);
    json[key] = value;
    if (value.is_discarded()) json.erase(key);
    expect_words(message_of([&] { config_from_json(json, "a/config.json"); }), {"a/config.json", "\"" + key + "\""});
  }

  /// Spreads the weights over two files with an index, in the place of model.safetensors.
  Json shard() {
    NamedTensors parts[2];
    Json map = Json::object();
    {
      const SafetensorsFile whole(place / "model.safetensors");
      for (const TensorView& view : whole.tensors()) {
        const size_t part = map.size() % 2;
        parts[part].emplace_back(view.name, load_tensor(whole, view.name));
        map[view.name] = fmt::format("part{}.safetensors", part);
      }
    }
    for (size_t part = 0; part < 2; ++part) save_tensors(place / fmt::format("part{}.safetensors", part), parts[part]);
    fs::remove(place / "model.safetensors");
    return {{"metadata", {{"total_size", 1}}}, {"weight_map", map}};
  }

  void write_index(const Json& index) { write_json(place / "model.safetensors.index.json", index); }

  fs::path place = folder / "model";
};

const Json kMissing = Json(Json::value_t::discarded);

TEST_F(Bundle, SavedAndLoadedInFloat32GivesTheSameLogitsBitForBit) {
  for (const TransformerConfig& config : configs()) {
    const LanguageModel model = model_of(config);
    model.save(place);
    const LanguageModel loaded = LanguageModel::load(place);
    EXPECT_TRUE(logits_of(loaded).equal(logits_of(model)));
    EXPECT_EQ(loaded.folder, place);
    EXPECT_EQ(loaded.tokenizer.encode("the cat sat"), model.tokenizer.encode("the cat sat"));
  }
}

TEST_F(Bundle, SavedInFloat16GivesEachWeightRoundedOnce) {
  for (const TransformerConfig& config : configs()) {
    const LanguageModel model = model_of(config);
    model.save(place, torch::kFloat16);
    EXPECT_EQ(SafetensorsFile(place / "model.safetensors").tensors().at(0).dtype, DType::kF16);
    const LanguageModel loaded = LanguageModel::load(place);
    const auto parameters = loaded.network->named_parameters();
    for (const auto& item : model.network->named_parameters())
      EXPECT_TRUE(parameters[item.key()].equal(item.value().to(torch::kFloat16).to(torch::kFloat32))) << item.key();
  }
}

TEST_F(Bundle, ConfigComesBackFromItsJson) {
  for (const TransformerConfig& config : configs()) {
    const Json json = config_to_json(config, small_tokenizer(), torch::kFloat32);
    const TransformerConfig back = config_from_json(json, "here");
    EXPECT_EQ(config_to_json(back, small_tokenizer(), torch::kFloat32), json);
    EXPECT_EQ(back.head_width, config.head_width);
    EXPECT_EQ(back.key_value_heads, config.key_value_heads);
    EXPECT_EQ(back.tied_head, config.tied_head);
    EXPECT_EQ(back.bias, config.bias);
    EXPECT_EQ(back.norm_epsilon, config.norm_epsilon);
    EXPECT_EQ(back.rotary_base, config.rotary_base);
  }
}

TEST_F(Bundle, NetworksOfNeitherFamilyAreNotSaved) {
  TransformerConfig mixed = small_llama(), grouped = small_gpt2();
  mixed.positions = Positions::kLearned;
  grouped.key_value_heads = 2;
  for (const TransformerConfig& config : {mixed, grouped}) {
    expect_words(message_of([&] { model_of(config).save(place); }), {"cannot be written", "gpt2", "llama"});
    EXPECT_FALSE(fs::exists(place));
  }
}

TEST_F(Bundle, WeightsTooLargeForFloat16AreRefusedAndTheOldFolderStays) {
  torch::NoGradGuard no_grad;
  LanguageModel model = model_of(small_llama());
  model.save(place);
  const torch::Tensor before = logits_of(model);
  model.network->named_parameters()["block1.down"][3][4] = 1e6;
  expect_words(message_of([&] { model.save(place, torch::kFloat16); }), {"model.layers.1.mlp.down_proj.weight"});
  EXPECT_TRUE(logits_of(LanguageModel::load(place)).equal(before));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);  // nothing else is left behind
}

TEST_F(Bundle, OtherElementTypesAreWrongUsage) {
  EXPECT_THROW(model_of(small_llama()).save(place, torch::kBFloat16), UsageError);
}

TEST_F(Bundle, MissingKeysAreNamed) {
  for (const char* const key : {"model_type", "vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers",
                                "num_attention_heads", "intermediate_size"})
    refuses(small_llama(), key, kMissing);
  for (const char* const key : {"model_type", "vocab_size", "n_embd", "n_layer", "n_head"}) refuses(small_gpt2(), key, kMissing);
}

TEST_F(Bundle, KeysOfTheWrongTypeAreNamed) {
  for (const char* const key : {"model_type", "vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers",
                                "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size", "rms_norm_eps",
                                "rope_theta", "attention_bias", "tie_word_embeddings"})
    for (const Json& wrong : {Json::array({1}), Json("text"), Json{{"a", 1}}}) refuses(small_llama(), key, wrong);
  for (const char* const key : {"n_positions", "n_embd", "n_layer", "n_head", "n_inner", "layer_norm_epsilon"})
    for (const Json& wrong : {Json(true), Json("text")}) refuses(small_gpt2(), key, wrong);
}

TEST_F(Bundle, SizesThatCannotBeAreNamed) {
  for (const char* const key : {"vocab_size", "max_position_embeddings", "hidden_size", "num_hidden_layers",
                                "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"})
    for (const Json& size : {Json(0), Json(-1), Json(2.5), Json(int64_t{1} << 40), Json(1e300), Json(uint64_t{1} << 63)})
      refuses(small_llama(), key, size);
  for (const char* const key : {"n_positions", "n_embd", "n_layer", "n_head", "n_inner"})
    for (const Json& size : {Json(0), Json(-4), Json(int64_t{1} << 40)}) refuses(small_gpt2(), key, size);
}

TEST_F(Bundle, SizesBeyondTheFilesAreRefusedBeforeAnythingIsAllocated) {
  for (const char* const key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                                "head_dim"})
    expect_words(message_with(small_llama(), key, 1 << 30), {"config.json"});
  for (const char* const key : {"n_positions", "n_layer", "n_inner"})
    expect_words(message_with(small_gpt2(), key, 1 << 20), {"config.json"});
}

TEST_F(Bundle, ConfigsThatDoNotFitTogetherNameTheFile) {
  const std::string file = (place / "config.json").string();
  expect_words(message_with(small_llama(), "num_key_value_heads", 3), {file, "key_value_heads (3)"});
  expect_words(message_with(small_llama(), "head_dim", 5), {file, "even"});
  expect_words(message_with(small_llama(), "rms_norm_eps", -1.0), {file, "norm_epsilon"});
  expect_words(message_with(small_llama(), "rope_theta", 0.5), {file, "rotary_base"});
  expect_words(message_with(small_gpt2(), "n_head", 3), {file, "n_embd", "n_head"});
}

TEST_F(Bundle, WhatTheNetworkDoesNotDoIsRefusedByKey) {
  refuses(small_llama(), "model_type", "t5");
  refuses(small_llama(), "hidden_act", "gelu");
  refuses(small_llama(), "mlp_bias", true);
  refuses(small_llama(), "attention_bias", true);
  refuses(small_llama(), "sliding_window", 4096);
  refuses(small_llama(), "partial_rotary_factor", 1.5);
  refuses(small_llama(), "quantization_config", {{"bits", 4}});
  refuses(small_llama(), "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}});
  refuses(small_llama(), "rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}});
  refuses(small_llama(), "rope_scaling", Json::array());
  refuses(small_llama(), "rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 10000.0}});
  refuses(small_gpt2(), "activation_function", "tanh");
  refuses(small_gpt2(), "scale_attn_by_inverse_layer_idx", true);
  refuses(small_gpt2(), "scale_attn_weights", false);
  refuses(small_gpt2(), "add_cross_attention", true);
}

TEST_F(Bundle, NullAndDefaultValuesOfUnsupportedKeysAreFine) {
  model_of(small_llama()).save(place);
  Json json = read_json(place / "config.json");
  for (const char* const key : {"rope_scaling", "sliding_window", "quantization_config"}) json[key] = nullptr;
  json.erase("rope_theta");
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 777.0}};
  write_json(place / "config.json", json);
  EXPECT_EQ(LanguageModel::load(place).network->config().rotary_base, 777.0);
}

TEST_F(Bundle, FoldersFilesAndJsonThatAreNotThereOrBrokenAreNamed) {
  expect_words(message_of([&] { LanguageModel::load(place); }), {place.string(), "config.json"});
  model_of(small_llama()).save(place);
  for (const char* const text : {"", "{", "[]", "null", "{\"model_type\": 3}"}) {
    write_file(place / "config.json", text);
    expect_words(message_of([&] { LanguageModel::load(place); }), {(place / "config.json").string()});
  }
  for (const char* const file : {"config.json", "model.safetensors", "tokenizer.json"}) {
    fs::remove_all(place);
    model_of(small_llama()).save(place);
    fs::remove(place / file);
    expect_words(message_of([&] { LanguageModel::load(place); }), {(place / file).string()});
  }
}

TEST_F(Bundle, DamagedWeightsNameFileAndTensor) {
  model_of(small_llama()).save(place);
  const fs::path file = place / "model.safetensors";
  const std::string name = "model.layers.1.self_attn.k_proj.weight";
  const auto rewrite = [&](const torch::Tensor& key, const std::string& key_name) {
    NamedTensors tensors;
    {
      const SafetensorsFile whole(file);
      for (const TensorView& view : whole.tensors())
        if (view.name != name) tensors.emplace_back(view.name, load_tensor(whole, view.name));
    }
    tensors.emplace_back(key_name, key);
    save_tensors(file, tensors);
    return message_of([&] { LanguageModel::load(place); });
  };
  expect_words(rewrite(torch::zeros({16, 8}), name), {file.string(), name, "[16, 8]", "[8, 16]"});
  const torch::Tensor nans = torch::full({8, 16}, std::numeric_limits<float>::quiet_NaN());
  expect_words(rewrite(nans, name), {file.string(), name, "NaN"});
  expect_words(rewrite(torch::zeros({8, 16}), "another"), {file.string(), name, "another"});
}

TEST_F(Bundle, ATokenizerLargerThanTheVocabularyIsRefused) {
  TransformerConfig config = small_llama();
  config.vocabulary = 269;  // the tokenizer has 270
  const LanguageModel model{small_transformer(config), small_tokenizer(), {}};
  model.save(place);
  expect_words(message_of([&] { LanguageModel::load(place); }), {(place / "config.json").string(), "270", "269"});
}

TEST_F(Bundle, ShardsWithAnIndexGiveTheSameLogits) {
  for (const TransformerConfig& config : configs()) {
    const LanguageModel model = model_of(config);
    model.save(place);
    write_index(shard());
    EXPECT_TRUE(logits_of(LanguageModel::load(place)).equal(logits_of(model)));
    fs::remove_all(place);
  }
}

TEST_F(Bundle, Gpt2sOwnNamesWithoutThePrefixAreRead) {
  const LanguageModel model = model_of(small_gpt2());
  model.save(place);
  NamedTensors tensors;
  {
    const SafetensorsFile whole(place / "model.safetensors");
    for (const TensorView& view : whole.tensors())
      tensors.emplace_back(view.name.substr(std::string("transformer.").size()), load_tensor(whole, view.name));
  }
  save_tensors(place / "model.safetensors", tensors);
  EXPECT_TRUE(logits_of(LanguageModel::load(place)).equal(logits_of(model)));
}

TEST_F(Bundle, HostileIndexesAreRefusedByName) {
  model_of(small_llama()).save(place);
  const Json good = shard();
  const std::string index = (place / "model.safetensors.index.json").string();
  const auto message = [&](const Json& json) {
    write_index(json);
    return message_of([&] { LanguageModel::load(place); });
  };
  expect_words(message(Json::array()), {index, "weight_map"});
  expect_words(message(Json::object()), {index, "weight_map"});
  expect_words(message({{"weight_map", Json::array()}}), {index, "weight_map"});
  for (const Json& file : {Json("../part0.safetensors"), Json("/part0.safetensors"), Json(""), Json(".."), Json(3)}) {
    Json bad = good;
    bad["weight_map"]["model.norm.weight"] = file;
    expect_words(message(bad), {place.string(), file.is_string() && file == ".." ? ".." : "model.norm.weight"});
  }
  Json elsewhere = good;
  elsewhere["weight_map"]["model.norm.weight"] = "part7.safetensors";
  expect_words(message(elsewhere), {(place / "part7.safetensors").string()});
  expect_words(message({{"weight_map", Json::object()}}), {place.string()});
}

}  // namespace
}  // namespace sememe
