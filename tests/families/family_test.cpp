#include "sememe/families/family.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <set>

#include "sememe/base/error.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

/// The smallest config.json of each family.
std::map<std::string, Json> examples() {
  const Json common = {{"vocab_size", 30}, {"max_position_embeddings", 12}, {"hidden_size", 8}, {"num_hidden_layers", 1},
                       {"num_attention_heads", 2}, {"num_key_value_heads", 1}, {"head_dim", 4}, {"intermediate_size", 10}};
  std::map<std::string, Json> all;
  for (const char* const name : {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi", "phi3"}) all[name] = common;
  all["gpt_neox"] = common;
  all["gpt_neox"]["num_key_value_heads"] = nullptr;
  all["gpt_neox"]["rotary_pct"] = 0.5;
  all["gpt2"] = {{"vocab_size", 30}, {"n_positions", 12}, {"n_embd", 8}, {"n_layer", 1}, {"n_head", 2}};
  all["opt"] = {{"vocab_size", 30}, {"max_position_embeddings", 12}, {"hidden_size", 8}, {"num_hidden_layers", 1}, {"num_attention_heads", 2},
                {"ffn_dim", 10}};
  for (auto& [name, json] : all) json["model_type"] = name;
  return all;
}

void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) EXPECT_NE(message.find(word), std::string::npos) << "no " << word << " in: " << message;
}

struct Folder : ::testing::Test {
  Folder() { fs::create_directories(folder); }
  ~Folder() override { fs::remove_all(folder); }

  /// A folder whose tensors have the names given, and hold zeros, enough of them for any example.
  ModelDescription describe(const Json& config_json, const std::vector<std::string>& names) {
    std::vector<TensorView> views;
    const std::vector<std::byte> zeros(4 * 4096);
    for (const std::string& name : names) views.push_back({name, DType::kF32, {4096}, zeros});
    write_safetensors(folder / "model.safetensors", views);
    write_json(folder / "config.json", config_json);
    return describe_folder(WeightFiles(folder));
  }

  /// The names that this config asks for: found by adding those that are said to be missing.
  std::vector<std::string> names_for(const Json& config_json) {
    std::vector<std::string> names = {"none"};
    for (int tries = 0; tries < 100; ++tries) {
      const std::string message = error_from([&] { describe(config_json, names); });
      const size_t begin = message.find('"') + 1;
      const std::string name = message.substr(begin, message.find('"', begin) - begin);
      if (name == "none") break;  // which is left over once no other is missing
      names.push_back(name);
    }
    names.erase(names.begin());
    return names;
  }

  fs::path folder = fs::temp_directory_path() / ("sememe_families_" + std::to_string(::getpid()));
};

TEST_F(Folder, OfEveryFamilyHasEachParameterInOnePlace) {
  for (const auto& [name, json] : examples()) {
    const ModelDescription description = describe(json, names_for(json));
    std::multiset<std::string> placed;
    std::set<std::string> wanted;
    for (const TensorPlace& place : description.places) placed.insert(place.parameters.begin(), place.parameters.end());
    for (const ParameterShape& parameter : parameter_shapes(description.config)) wanted.insert(parameter.name);
    EXPECT_EQ(std::set(placed.begin(), placed.end()), wanted) << name;
    EXPECT_EQ(placed.size(), wanted.size()) << name;
  }
}

TEST_F(Folder, LeftOverTensorsAreRefusedAndBuffersThatSayNothingAreNot) {
  const Json json = examples().at("llama");
  std::vector<std::string> names = names_for(json);
  names.push_back("model.layers.0.self_attn.rotary_emb.inv_freq");
  describe(json, names);
  names.push_back("model.layers.0.self_attn.q_proj.bias");
  expect_words(error_from([&] { describe(json, names); }), {"model.safetensors", "model.layers.0.self_attn.q_proj.bias", "not supported"});
}

TEST_F(Folder, NamesWithoutThePrefixAreFound) {
  const std::map<std::string, std::string> prefixes = {{"gpt2", "transformer."}, {"opt", "model."}, {"gpt_neox", "gpt_neox."}};
  for (const auto& [family, prefix] : prefixes) {
    std::vector<std::string> names = names_for(examples().at(family));
    for (std::string& name : names)
      if (name.starts_with(prefix)) name = name.substr(prefix.size());
    std::set<std::string> found;
    for (const TensorPlace& place : describe(examples().at(family), names).places) found.insert(place.tensor);
    EXPECT_EQ(found, std::set(names.begin(), names.end())) << family;
  }
}

TEST(Family, WhatANetworkDoesNotDoIsRefusedByKey) {
  const auto refused = [](const std::string& family, const std::string& key, const Json& value) {
    Json json = examples().at(family);
    json[key] = value;
    expect_words(error_from([&] { config_from_json(json, "a/config.json"); }), {"a/config.json", "\"" + key + "\""});
  };
  refused("mistral", "layer_types", {"full_attention", "sliding_attention"});
  refused("mistral", "sliding_window", 0);
  refused("qwen3", "attention_bias", true);
  refused("qwen2", "rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}});
  refused("qwen2", "rope_scaling", {{"type", "yarn"}, {"mscale", 1.0}});  // no factor
  refused("qwen2", "rope_scaling", {{"type", "yarn"}, {"factor", 4.0}, {"truncate", false}});
  refused("gemma2", "hidden_activation", "silu");
  refused("gemma2", "query_pre_attn_scalar", 0);
  refused("gemma2", "layer_types", {"full_attention", "full_attention"});
  refused("gemma3_text", "layer_types", Json::array({"chunked_attention"}));
  refused("gemma3_text", "use_bidirectional_attention", true);
  refused("gemma3_text", "rope_parameters", {{"global", {{"rope_type", "default"}}}});
  refused("gemma3_text", "rope_parameters", {{"sliding_attention", {{"rope_type", "linear"}, {"factor", 2.0}}}});
  refused("gpt_neox", "attention_bias", false);
  refused("gpt_neox", "rotary_pct", 0);
  refused("opt", "do_layer_norm_before", false);
  refused("opt", "word_embed_proj_dim", 4);
  refused("opt", "enable_bias", false);
  refused("phi", "qk_layernorm", true);
  refused("phi3", "rope_scaling", {{"type", "longrope"}});
}

TEST(Family, KeysOfOlderFilesMeanWhatThoseOfNewerOnesDo) {
  const auto alike = [](const std::string& family, const Json& old_keys, const Json& new_keys) {
    Json old_json = examples().at(family), new_json = old_json;
    old_json.update(old_keys);
    new_json.update(new_keys);
    EXPECT_EQ(config_from_json(old_json, "old"), config_from_json(new_json, "new")) << old_keys;
    EXPECT_NE(config_from_json(old_json, "old"), config_from_json(examples().at(family), "plain")) << old_keys;
  };
  alike("llama", {{"rope_theta", 77.0}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}},
        {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 77.0}}}});
  alike("gpt_neox", {{"rotary_emb_base", 77.0}, {"rotary_pct", 1.0}},
        {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 77.0}, {"partial_rotary_factor", 1.0}}}});
  alike("gemma3_text", {{"rope_theta", 500.0}, {"rope_local_base_freq", 77.0}, {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}},
        {{"rope_parameters", {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 500.0}}},
                              {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 77.0}}}}}});
  alike("phi", {{"partial_rotary_factor", 1.0}}, {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 1.0}}}});
}

TEST(Family, WindowsAreOfTheLayersThatThePublishedModelsHaveThemIn) {
  const auto local = [](const std::string& family, int64_t layers, Json more) {
    Json json = examples().at(family);
    json["num_hidden_layers"] = layers;
    json.update(more);
    const TransformerConfig config = config_from_json(json, family);
    EXPECT_EQ(config.window, config.local_layers.empty() ? 0 : 5);
    return config.local_layers;
  };
  const Json five = {{"sliding_window", 5}};
  EXPECT_EQ(local("gemma2", 3, five), (std::vector<bool>{true, false, true}));
  EXPECT_EQ(local("gemma3_text", 7, five), (std::vector<bool>{true, true, true, true, true, false, true}));
  EXPECT_EQ(local("mistral", 2, five), (std::vector<bool>{true, true}));
  EXPECT_EQ(local("mistral", 2, {{"sliding_window", nullptr}}), std::vector<bool>());
  EXPECT_EQ(local("qwen2", 2, five), std::vector<bool>());
  EXPECT_EQ(local("qwen2", 3, {{"sliding_window", 5}, {"use_sliding_window", true}, {"max_window_layers", 2}}), (std::vector<bool>{false, false, true}));
  EXPECT_EQ(local("qwen3", 2, {{"sliding_window", 5}, {"use_sliding_window", true}, {"layer_types", {"sliding_attention", "full_attention"}}}),
            (std::vector<bool>{true, false}));
}

TEST(Family, AnUnknownOneListsThoseThereAre) {
  Json json = examples().at("llama");
  json["model_type"] = "t5";
  expect_words(error_from([&] { config_from_json(json, "a/config.json"); }),
               {"a/config.json", "\"t5\"", "\"gemma2\", ", "\"qwen3\" are supported"});
}

TEST(Family, WhatIsWrittenIsReadBack) {
  for (const char* const name : {"llama", "gpt2", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt_neox", "phi"}) {
    const TransformerConfig config = config_from_json(examples().at(name), name);
    const Json written = describe_written(config).config_json;
    EXPECT_EQ(config_from_json(written, "here"), config) << name;
    EXPECT_EQ(written.at("model_type"), name);
  }
  for (const char* const name : {"qwen2", "qwen3", "gemma2", "gemma3_text"}) {
    TransformerConfig windowed = config_from_json(examples().at(name), name);
    windowed.window = 3;
    windowed.local_layers.assign(windowed.layers, true);
    EXPECT_EQ(config_from_json(describe_written(windowed).config_json, "here"), windowed) << name;
  }
  TransformerConfig scaled = config_from_json(examples().at("llama"), "llama");
  scaled.rotary_scaling = {RotaryScaling::Kind::kLlama3, 8, 2, 5, 7, {}};
  EXPECT_EQ(config_from_json(describe_written(scaled).config_json, "here"), scaled);
  Json relu = examples().at("llama");
  relu["hidden_act"] = "relu";
  const TransformerConfig with_relu = config_from_json(relu, "llama");
  EXPECT_EQ(with_relu.feed_forward, FeedForward::kGatedRelu);
  EXPECT_TRUE(is_gated(with_relu));
  EXPECT_EQ(config_from_json(describe_written(with_relu).config_json, "here"), with_relu);
}

TEST(Family, WhatNoFolderCanSayIsNotWritten) {
  const auto not_written = [](const TransformerConfig& config) {
    expect_words(error_from([&] { describe_written(config); }), {"cannot be written", "gemma2", "llama"});
  };
  TransformerConfig without_biases = config_from_json(examples().at("opt"), "opt");
  without_biases.bias = false;
  not_written(without_biases);
  TransformerConfig mixed = config_from_json(examples().at("llama"), "llama");
  mixed.positions = Positions::kLearned;
  not_written(mixed);
  TransformerConfig divided = config_from_json(examples().at("llama"), "llama");
  divided.rotary_scaling.kind = RotaryScaling::Kind::kDivisors;
  divided.rotary_scaling.divisors = {1, 2};
  not_written(divided);
}

TEST(Family, LongRopeIsHeldToItsFirstContextAndTakesTheFactorsForIt) {
  Json json = examples().at("phi3");
  json["max_position_embeddings"] = 1200;
  json["original_max_position_embeddings"] = 12;
  json["rope_scaling"] = {{"type", "longrope"}, {"short_factor", {1.5, 2.0}}, {"long_factor", {3.0, 4.0}}};
  const TransformerConfig config = config_from_json(json, "phi3");
  EXPECT_EQ(config.context, 12);
  EXPECT_EQ(config.rotary_scaling.divisors, (std::vector<float>{1.5f, 2.0f}));
  EXPECT_EQ(config.rotary_scaling.magnitude, longrope_magnitude(100, 12));
}

TEST(ParameterShapes, RowsOfFusedTensorsAreFound) {
  TransformerConfig config;
  config.width = 6;
  config.heads = config.key_value_heads = 2;
  config.head_width = 4;
  const ParameterShapes shapes(config);
  TensorPlace place{"fused", {"block0.query", "block0.key", "block0.value"}};
  EXPECT_EQ(shapes.tensor_shape(place), (std::vector<int64_t>{24, 6}));
  EXPECT_EQ(shapes.rows_in_tensor(place, 1), (std::vector<int64_t>{8, 9, 10, 11, 12, 13, 14, 15}));
  place.rows = TensorPlace::Rows::kByHead;
  place.heads = 2;
  EXPECT_EQ(shapes.rows_in_tensor(place, 1), (std::vector<int64_t>{4, 5, 6, 7, 16, 17, 18, 19}));
  place.transposed = true;
  EXPECT_EQ(shapes.tensor_shape(place), (std::vector<int64_t>{6, 24}));
  const TensorPlace pairs{.tensor = "q", .parameters = {"block0.query"}, .rows = TensorPlace::Rows::kPairs, .heads = 2};
  EXPECT_EQ(shapes.rows_in_tensor(pairs, 0), (std::vector<int64_t>{0, 2, 1, 3, 4, 6, 5, 7}));
}

TEST(ParameterShapes, RowsOfGroupedHeadsStackBehindEachOther) {
  TransformerConfig config;
  config.heads = 4;
  config.key_value_heads = 2;
  config.head_width = 2;
  const ParameterShapes shapes(config);
  const TensorPlace place{"fused", {"block0.query", "block0.key", "block0.value"}};
  EXPECT_EQ(shapes.rows_in_tensor(place, 2), (std::vector<int64_t>{12, 13, 14, 15}));
}

}  // namespace
}  // namespace sememe
