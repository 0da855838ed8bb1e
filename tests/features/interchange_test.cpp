#include "sememe/features/interchange/format.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstdlib>
#include <optional>

#include "sememe/data/byte_stream.h"
#include "sememe/features/description.h"
#include "sememe/features/gradient_top_k.h"
#include "sememe/features/interchange/weight_file.h"
#include "sememe/formats/npy.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLatents = 12, kWidth = 5;

/// A random dictionary of that architecture, with atoms of different norms.
DictionaryParts random_parts(const std::string& architecture, int64_t latents = kLatents, int64_t width = kWidth) {
  DictionaryParts parts;
  parts.architecture = architecture;
  parts.weights = {torch::randn({latents, width}), torch::randn({latents}), torch::randn({latents, width}) * (torch::rand({latents, 1}) + 0.5),
                   torch::randn({width})};
  if (architecture == "topk") parts.k = std::min<int64_t>(3, latents);
  if (architecture == "relu") parts.thresholds = torch::zeros({latents});
  if (architecture == "jumprelu") parts.thresholds = torch::rand({latents});
  if (architecture == "batchtopk") {
    parts.thresholds = torch::full({latents}, 0.7);
    parts.config["k"] = 3;
  }
  if (architecture == "gated") {
    parts.log_magnitude = torch::randn({latents}) * 0.3;
    parts.magnitude_bias = torch::randn({latents});
  }
  parts.config["site"] = "blocks.5.hook_resid_post";
  parts.config["model"] = "models/english";
  return parts;
}

torch::Tensor dense(const SparseCodes& codes, int64_t latents) {
  torch::Tensor all = torch::zeros({codes.rows(), latents});
  for (int64_t row = 0; row < codes.rows(); ++row)
    for (int64_t entry = codes.offsets[row].item<int64_t>(); entry < codes.offsets[row + 1].item<int64_t>(); ++entry)
      all[row][codes.atoms[entry].item<int32_t>()] = codes.values[entry];
  return all;
}

double difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>(); }

/// A latent whose pre-activation is within rounding of its threshold may be on either side of it; rows with such a latent are passed over.
torch::Tensor clear_rows(const Dictionary& dictionary, const torch::Tensor& x) {
  const DictionaryParts parts = take_apart(dictionary);
  const torch::Tensor u = torch::addmm(parts.weights.encoder_bias, x - parts.weights.decoder_bias, parts.weights.encoder.t());
  torch::Tensor distance = (u - (parts.thresholds.defined() ? parts.thresholds : torch::zeros({u.size(1)}))).abs();
  if (parts.k > 0 && parts.k < u.size(1)) {
    const torch::Tensor sorted = std::get<0>(u.sort(1, true));
    distance = torch::cat({distance, (sorted.narrow(1, parts.k - 1, 1) - sorted.narrow(1, parts.k, 1)).abs()}, 1);
  }
  return x.index_select(0, (std::get<0>(distance.min(1)) > 1e-4).nonzero().squeeze(1));
}

void expect_same(const Dictionary& a, const Dictionary& b) {
  const torch::Tensor x = clear_rows(a, torch::randn({64, a.width()}) * 2);
  ASSERT_GT(x.size(0), 8);
  const SparseCodes first = a.encode(x), second = b.encode(x);
  EXPECT_LT(difference(dense(first, a.size()), dense(second, b.size())), 1e-5);
  EXPECT_LT(difference(a.decode(first), b.decode(second)), 1e-5);
}

class Interchange : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    torch::manual_seed(11);
  }
  fs::path write(const DictionaryParts& parts, const std::string& format) {
    const fs::path folder = folder_ / format;
    write_dictionary(*put_together(parts), format, folder);
    return folder;
  }
  std::string error_reading(const fs::path& folder) {
    return error_from([&] { load_dictionary(folder); });
  }
  /// A SAELens folder of which some of the config and some tensors are replaced; undefined tensors are left out.
  fs::path saelens_with(const std::string& architecture, const Json& changes, const NamedTensors& tensors = {}) {
    const fs::path folder = write(random_parts(architecture), "saelens");
    Json config = read_json(folder / "cfg.json");
    config.merge_patch(changes);
    write_json(folder / "cfg.json", config);
    change(folder / "sae_weights.safetensors", tensors);
    return folder;
  }
  static void change(const fs::path& path, const NamedTensors& changes) {
    NamedTensors tensors;
    {
      const SafetensorsFile file(path);
      for (const TensorView& view : file.tensors()) {
        const bool changed = std::any_of(changes.begin(), changes.end(), [&](const auto& pair) { return pair.first == view.name; });
        if (!changed) tensors.emplace_back(view.name, load_tensor(file, view.name));
      }
    }
    for (const auto& [name, tensor] : changes)
      if (tensor.defined()) tensors.emplace_back(name, tensor);
    save_tensors(path, tensors);
  }
};

struct RoundTrip {
  const char *format, *architecture, *becomes;
};

TEST_F(Interchange, EveryFormatGivesBackTheSameDictionary) {
  for (const RoundTrip& trip : {RoundTrip{"saelens", "relu", "relu"},
                                {"saelens", "topk", "topk"},
                                {"saelens", "jumprelu", "jumprelu"},
                                {"saelens", "batchtopk", "jumprelu"},
                                {"saelens", "gated", "gated"},
                                {"sparsify", "topk", "topk"},
                                {"dictionary-learning", "relu", "relu"},
                                {"dictionary-learning", "topk", "topk"},
                                {"dictionary-learning", "jumprelu", "jumprelu"},
                                {"dictionary-learning", "batchtopk", "batchtopk"},
                                {"dictionary-learning", "gated", "gated"},
                                {"gemma-scope", "relu", "jumprelu"},
                                {"gemma-scope", "jumprelu", "jumprelu"},
                                {"gemma-scope", "batchtopk", "jumprelu"},
                                {"sememe", "batchtopk", "batchtopk"}}) {
    SCOPED_TRACE(fmt::format("{} {}", trip.format, trip.architecture));
    const auto dictionary = put_together(random_parts(trip.architecture));
    const fs::path folder = folder_ / trip.format;
    write_dictionary(*dictionary, trip.format, folder);
    const auto again = load_dictionary(folder);
    EXPECT_EQ(again->architecture(), trip.becomes);
    expect_same(*dictionary, *again);
  }
}

TEST_F(Interchange, WhatAFormatCannotHoldIsAnErrorThatSaysWhy) {
  for (const char* const architecture : {"relu", "jumprelu", "gated"})
    EXPECT_TRUE(contains(error_from([&] { write(random_parts(architecture), "sparsify"); }), {"k largest", architecture}));
  for (const char* const architecture : {"topk", "gated"})
    EXPECT_TRUE(contains(error_from([&] { write(random_parts(architecture), "gemma-scope"); }), {"thresholds", architecture}));
  EXPECT_TRUE(contains(error_from([&] { write(random_parts("relu"), "openai"); }), {"--to openai", "saelens", "gemma-scope"}));
  EXPECT_TRUE(contains(error_from([&] { write(random_parts("relu"), "magic"); }), {"--to magic", "saelens"}));
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Interchange, ADictionaryOfInfluenceIsWrittenAsItSelectsWithoutGradients) {
  const DictionaryParts parts = random_parts("topk");
  const GradientTopKDictionary dictionary(parts.weights, 3, {}, 1.0, Json::object());
  write_dictionary(dictionary, "saelens", folder_ / "s");
  const auto again = load_dictionary(folder_ / "s");
  EXPECT_EQ(again->architecture(), "topk");
  expect_same(dictionary, *again);
}

TEST_F(Interchange, NamesAndSettingsOfTheSourceAreKept) {
  const fs::path folder = saelens_with("topk", {{"metadata", {{"dataset_path", "some/text"}, {"context_size", 128}}}});
  EXPECT_EQ(dictionary_site(folder), "blocks.5.hook_resid_post");
  write_dictionary(*load_dictionary(folder), "sememe", folder_ / "own");
  const Json config = read_json(folder_ / "own" / "config.json");
  EXPECT_EQ(config["site"], "blocks.5.hook_resid_post");
  EXPECT_EQ(config["model"], "models/english");
  EXPECT_EQ(config["origin"]["format"], "saelens");
  EXPECT_EQ(config["origin"]["config"], read_json(folder / "cfg.json"));
  write_dictionary(*load_dictionary(folder_ / "own"), "saelens", folder_ / "again");
  EXPECT_EQ(read_json(folder_ / "again" / "cfg.json")["metadata"], read_json(folder / "cfg.json")["metadata"]);
}

TEST_F(Interchange, ASparsifyFolderIsNamedAfterItsSite) {
  write_dictionary(*put_together(random_parts("topk")), "sparsify", folder_ / "layers.7");
  EXPECT_EQ(dictionary_site(folder_ / "layers.7"), "layers.7");
  EXPECT_EQ(dictionary_site(folder_ / "layers.7" / ""), "layers.7");
}

// SAELens

TEST_F(Interchange, SaelensOldFlatKeysAreRead) {
  const DictionaryParts parts = random_parts("topk");
  const fs::path folder = write(parts, "saelens");
  write_json(folder / "cfg.json", {{"d_in", kWidth}, {"d_sae", kLatents}, {"hook_point", "blocks.8.hook_mlp_out"}, {"model_name", "gpt2-small"},
                                   {"activation_fn_str", "topk"}, {"activation_fn_kwargs", {{"k", 3}}}, {"normalize_activations", false},
                                   {"expansion_factor", 4}, {"l1_coefficient", 1e-3}, {"b_dec_init_method", "mean"}});
  const auto loaded = load_dictionary(folder);
  expect_same(*put_together(parts), *loaded);
  EXPECT_EQ(dictionary_site(folder), "blocks.8.hook_mlp_out");
  EXPECT_EQ(take_apart(*loaded).config["model"], "gpt2-small");
}

TEST_F(Interchange, SaelensInputsThatAreNotCentredAreFoldedIntoTheBias) {
  for (const char* const architecture : {"relu", "topk", "jumprelu", "gated"}) {
    SCOPED_TRACE(architecture);
    const fs::path folder = saelens_with(architecture, {{"apply_b_dec_to_input", false}});
    const auto loaded = load_dictionary(folder);
    WeightFile file(folder / "sae_weights.safetensors");
    const torch::Tensor x = torch::randn({20, kWidth}), w = file.load("W_enc", {kWidth, kLatents});
    const bool gated = std::string(architecture) == "gated";
    const torch::Tensor u = torch::mm(x, w) + file.load(gated ? "b_gate" : "b_enc", {kLatents});
    torch::Tensor wanted = u.relu();
    if (gated) wanted = (u > 0) * (torch::mm(x, w * file.load("r_mag", {kLatents}).exp()) + file.load("b_mag", {kLatents})).relu();
    if (std::string(architecture) == "jumprelu") wanted = wanted * (u > file.load("threshold", {kLatents}));
    if (std::string(architecture) == "topk") {
      const auto [values, where] = u.topk(3, 1);
      wanted = torch::zeros_like(u).scatter(1, where, values.relu());
    }
    EXPECT_LT(difference(dense(loaded->encode(x), kLatents), wanted), 1e-5);
  }
}

TEST_F(Interchange, SaelensInputScaleIsFoldedWhereTheFolderHoldsIt) {
  const fs::path folder = saelens_with("relu", {{"normalize_activations", "expected_average_only_in"}});
  const auto unscaled = load_dictionary(folder);
  write_json(folder / "activation_scaler.json", {{"scaling_factor", 0.25}});
  const auto scaled = load_dictionary(folder);
  const torch::Tensor x = torch::randn({30, kWidth}) * 8;
  EXPECT_LT(difference(dense(scaled->encode(x), kLatents), dense(unscaled->encode(x * 0.25), kLatents)), 1e-5);
  EXPECT_LT(difference(scaled->decode(scaled->encode(x)), unscaled->decode(unscaled->encode(x * 0.25)) * 4), 1e-4);
  write_json(folder / "activation_scaler.json", {{"scaling_factor", -1}});
  EXPECT_TRUE(contains(error_reading(folder), {"activation_scaler.json", "scaling_factor", "-1"}));
}

TEST_F(Interchange, SaelensCodesInUnitsOfDecoderNormsAreRead) {
  for (const char* const architecture : {"topk", "batchtopk"}) {
    SCOPED_TRACE(architecture);
    const bool batch = std::string(architecture) == "batchtopk";
    const fs::path folder =
        saelens_with("topk", {{"architecture", architecture}, {"k", 3}, {"rescale_acts_by_decoder_norm", true}},
                     {{"topk_threshold", torch::full({}, 0.9, torch::kDouble)}});
    const auto loaded = load_dictionary(folder);
    EXPECT_EQ(loaded->architecture(), architecture);
    WeightFile file(folder / "sae_weights.safetensors");
    const torch::Tensor x = torch::randn({20, kWidth}), w_dec = file.load("W_dec", {kLatents, kWidth}), norms = w_dec.norm(2, {1});
    const torch::Tensor b_dec = file.load("b_dec", {kWidth});
    const torch::Tensor u = (torch::mm(x - b_dec, file.load("W_enc", {kWidth, kLatents})) + file.load("b_enc", {kLatents})) * norms;
    const auto [values, where] = u.topk(3, 1);
    const torch::Tensor wanted = batch ? u.relu() * (u > 0.9) : torch::zeros_like(u).scatter(1, where, values.relu());
    const SparseCodes codes = loaded->encode(x);
    EXPECT_LT(difference(dense(codes, kLatents), wanted), 1e-5);
    EXPECT_LT(difference(loaded->decode(codes), torch::mm(wanted / norms, w_dec) + b_dec), 1e-5);
    // With an input scale of 1/4, folded first, norms and codes of the folded atoms are 4 times as large.
    Json config = read_json(folder / "cfg.json");
    config["normalize_activations"] = "expected_average_only_in";
    write_json(folder / "cfg.json", config);
    write_json(folder / "activation_scaler.json", {{"scaling_factor", 0.25}});
    const SparseCodes scaled = load_dictionary(folder)->encode(x * 4);
    EXPECT_LT(difference(dense(scaled, kLatents), wanted * 4), 1e-4);
    EXPECT_LT(difference(load_dictionary(folder)->decode(scaled), (torch::mm(wanted / norms, w_dec) + b_dec) * 4), 1e-4);
    fs::remove(folder / "activation_scaler.json");
  }
}

TEST_F(Interchange, SaelensHalfPrecisionLoads) {
  for (const auto type : {torch::kHalf, torch::kBFloat16}) {
    const fs::path folder = saelens_with("relu", {{"dtype", "bfloat16"}}, {{"W_enc", torch::randn({kWidth, kLatents}).to(type)}});
    EXPECT_EQ(error_reading(folder), "no error");
  }
}

TEST_F(Interchange, SaelensWhatCannotBeFoldedIsRefusedByName) {
  const auto with = [&](const Json& changes) { return error_reading(saelens_with("relu", changes)); };
  for (const char* const how : {"layer_norm", "constant_norm_rescale", "covariance_whitening"})
    EXPECT_TRUE(contains(with({{"normalize_activations", how}}), {"cfg.json", "normalize_activations", how, "--inputs-normalized"}));
  EXPECT_TRUE(contains(with({{"architecture", "transcoder"}}), {"cfg.json", "transcoder"}));
  EXPECT_TRUE(contains(with({{"reshape_activations", "fold"}}), {"cfg.json", "reshape_activations"}));
  const fs::path folder = saelens_with("relu", {{"normalize_activations", "layer_norm"}});
  EXPECT_EQ(error_from([&] { read_saelens(folder, {.inputs_normalized = true}); }), "no error");
}

TEST_F(Interchange, SaelensFilesThatCannotBeNameFileAndKey) {
  const float nan = std::nanf("");
  EXPECT_TRUE(contains(error_reading(saelens_with("relu", Json::object(), {{"W_dec", torch::full({kLatents, kWidth}, nan)}})),
                       {"sae_weights.safetensors", "W_dec", "NaN"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("relu", Json::object(), {{"b_enc", torch::full({kLatents}, INFINITY)}})), {"b_enc", "infinite"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("relu", Json::object(), {{"b_dec", torch::Tensor()}})), {"sae_weights.safetensors", "b_dec", "W_enc"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("jumprelu", Json::object(), {{"threshold", torch::zeros({3})}})), {"threshold", "[3]", "[12]"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("relu", {{"d_sae", 13}})), {"W_enc", "[5, 12]", "[5, 13]"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("relu", {{"d_in", -1}})), {"cfg.json", "d_in -1"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("relu", {{"d_in", nullptr}})), {"cfg.json", "d_in"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("topk", {{"k", 13}})), {"cfg.json", "k 13", "12"}));
  EXPECT_TRUE(contains(error_reading(saelens_with("topk", {{"k", 1.5}})), {"cfg.json", "\"k\""}));
  const fs::path folder = saelens_with("relu", Json::object());
  fs::resize_file(folder / "sae_weights.safetensors", 300);
  EXPECT_TRUE(contains(error_reading(folder), {"sae_weights.safetensors"}));
  fs::remove(folder / "sae_weights.safetensors");
  EXPECT_TRUE(contains(error_reading(folder), {"sae_weights.safetensors"}));
  write_file(folder / "cfg.json", "[1]");
  EXPECT_TRUE(contains(error_reading(folder), {"cfg.json", "settings"}));
}

// sparsify

TEST_F(Interchange, SparsifyLatentsMayBeSaidByTheFactor) {
  const fs::path folder = write(random_parts("topk", 10), "sparsify");
  Json config = read_json(folder / "cfg.json");
  config["num_latents"] = 0;
  config["expansion_factor"] = 2;
  write_json(folder / "cfg.json", config);
  EXPECT_EQ(load_dictionary(folder)->size(), 10);
}

TEST_F(Interchange, SparsifyWhatCannotBeHeldIsRefusedByName) {
  const auto with = [&](const char* key, const Json& value) {
    const fs::path folder = write(random_parts("topk"), "sparsify");
    Json config = read_json(folder / "cfg.json");
    config[key] = value;
    write_json(folder / "cfg.json", config);
    return error_reading(folder);
  };
  EXPECT_TRUE(contains(with("activation", "groupmax"), {"cfg.json", "activation", "groupmax"}));
  EXPECT_TRUE(contains(with("transcode", true), {"cfg.json", "transcode"}));
  EXPECT_TRUE(contains(with("skip_connection", true), {"cfg.json", "skip_connection"}));
  EXPECT_TRUE(contains(with("k", 13), {"cfg.json", "k 13"}));
  EXPECT_TRUE(contains(with("d_in", 4), {"sae.safetensors", "encoder.weight"}));
}

// dictionary_learning

TEST_F(Interchange, DictionaryLearningWhatCannotBeNamesFileAndKey) {
  const auto with = [&](const std::string& architecture, const Json& trainer) {
    const fs::path folder = write(random_parts(architecture), "dictionary-learning");
    Json config = read_json(folder / "config.json");
    config["trainer"].merge_patch(trainer);
    write_json(folder / "config.json", config);
    return error_reading(folder);
  };
  EXPECT_TRUE(contains(with("relu", {{"dict_class", "IdentityDict"}}), {"config.json", "dict_class", "IdentityDict"}));
  EXPECT_TRUE(contains(with("relu", {{"activation_dim", 6}}), {"config.json", "activation_dim", "6"}));
  EXPECT_TRUE(contains(with("topk", {{"k", 4}}), {"config.json", "\"k\" is 4", "3"}));
  EXPECT_TRUE(contains(with("relu", {{"dict_class", "JumpReluAutoEncoder"}}), {"ae.pt", "W_enc", "encoder.weight"}));
  DictionaryParts parts = random_parts("batchtopk");
  const fs::path folder = write(parts, "dictionary-learning");
  const AutoencoderWeights& weights = parts.weights;
  with_views({{"encoder.weight", weights.encoder}, {"encoder.bias", weights.encoder_bias}, {"decoder.weight", weights.decoder.t()},
              {"b_dec", weights.decoder_bias}, {"threshold", torch::full({}, -1.0f)}},
             [&](std::span<const TensorView> views) { write_torch_checkpoint(folder / "ae.pt", views); });
  EXPECT_TRUE(contains(error_reading(folder), {"ae.pt", "threshold", "too few steps"}));
  write_file(folder / "ae.pt", "\x80\x02}.");
  EXPECT_TRUE(contains(error_reading(folder), {"ae.pt", "before version 1.6"}));
}

// OpenAI

TEST_F(Interchange, OpenAiStateDictsAreRead) {
  const DictionaryParts parts = random_parts("relu");
  fs::create_directory(folder_ / "openai");
  const NamedTensors tensors{{"pre_bias", parts.weights.decoder_bias}, {"latent_bias", parts.weights.encoder_bias},
                             {"encoder.weight", parts.weights.encoder}, {"decoder.weight", parts.weights.decoder.t()},
                             {"stats_last_nonzero", torch::zeros({kLatents}, torch::kLong)}};
  with_views(tensors, [&](std::span<const TensorView> views) { write_torch_checkpoint(folder_ / "openai" / "autoencoder.pt", views); });
  expect_same(*put_together(parts), *load_dictionary(folder_ / "openai"));
  fs::remove(folder_ / "openai" / "autoencoder.pt");
  const fs::path path = folder_ / "openai" / "autoencoder.safetensors";
  save_tensors(path, tensors, {{"activation", "TopK"}, {"activation_state_dict.k", "3"}});
  EXPECT_TRUE(contains(error_reading(folder_ / "openai"), {"autoencoder.safetensors", "layer_norm", "--inputs-normalized"}));
  DictionaryParts top = parts;
  top.architecture = "topk";
  top.k = 3;
  top.thresholds = torch::Tensor();
  expect_same(*put_together(top), *put_together(read_openai(folder_ / "openai", {.inputs_normalized = true})));
  save_tensors(path, tensors, {{"activation", "TopK"}, {"activation_state_dict.k", "13"}});
  EXPECT_TRUE(contains(error_from([&] { read_openai(folder_ / "openai", {.inputs_normalized = true}); }), {"k 13"}));
  save_tensors(path, tensors, {{"activation", "Identity"}});
  EXPECT_TRUE(contains(error_reading(folder_ / "openai"), {"autoencoder.safetensors", "Identity"}));
}

TEST_F(Interchange, AFolderOfNoFormatNamesWhatIsMissing) {
  EXPECT_TRUE(contains(error_reading(folder_), {folder_.filename().string(), "config.json"}));
}

// Neuronpedia

std::vector<Json> gzipped_lines(const fs::path& path) {
  std::vector<Json> lines;
  LineReader reader(path);  // unpacks what is packed
  while (const std::optional<std::string> line = reader.next()) lines.push_back(parse_json(*line, path.string()));
  return lines;
}

LatentDescription measured(int64_t latent) {
  LatentDescription description;
  description.latent = latent;
  description.firings = 6;
  description.density = 0.03;
  description.maximum = 4.0;
  description.histogram = {5, 1};
  description.promoted = {{" cat", 2.5}};
  description.suppressed = {{" dog", -1.5}};
  description.nearest = {{1, 0.5}};
  description.examples = {{"top", 4.0, {"the", " cat"}, {0.0, 4.0}, 1},
                          {"50%", 3.0, {"a", " cat"}, {0.5, 3.0}, 1},
                          {"25%", 2.0, {"cat"}, {2.0}, 0}};
  return description;
}

TEST_F(Interchange, NeuronpediaGetsWhatWasMeasuredAndNoWordOfItsOwn) {
  const DictionaryParts parts = random_parts("relu", 1030, 3);
  fs::create_directory(folder_ / "description");
  std::string lines;
  for (int64_t latent = 0; latent < 1030; ++latent) lines += measured(latent).to_json().dump() + "\n";
  write_file(folder_ / "description" / "latents.jsonl", lines);
  write_dictionary(*put_together(parts), "neuronpedia", folder_ / "n", {.description = folder_ / "description"});
  const std::vector<Json> first = gzipped_lines(folder_ / "n" / "features" / "batch-0.jsonl.gz");
  const std::vector<Json> second = gzipped_lines(folder_ / "n" / "features" / "batch-1.jsonl.gz");
  ASSERT_EQ(first.size(), 1024u);
  ASSERT_EQ(second.size(), 6u);
  EXPECT_EQ(second[5]["index"], "1029");
  Json feature = first[7];
  EXPECT_NEAR(feature["vector"][2].get<float>(), parts.weights.decoder[7][2].item<float>(), 1e-6);
  feature.erase("vector");
  const Json activations = feature["activations"];
  EXPECT_EQ(activations[0], (Json{{"tokens", {"the", " cat"}}, {"values", {0.0, 4.0}}, {"maxValue", 4.0}, {"maxValueTokenIndex", 1},
                                  {"minValue", 0.0}, {"binMin", -1.0}, {"binMax", 4.0}, {"binContains", -1.0},
                                  {"qualifyingTokenIndex", 1}}));
  EXPECT_EQ(feature, (Json{{"modelId", "english"}, {"layer", "blocks.5.hook_resid_post"}, {"hookName", "blocks.5.hook_resid_post"},
                           {"index", "7"}, {"hasVector", true}, {"maxActApprox", 4.0}, {"frac_nonzero", 0.03},
                           {"pos_str", {" cat"}}, {"pos_values", {2.5}}, {"neg_str", {" dog"}}, {"neg_values", {-1.5}},
                           {"freq_hist_data_bar_heights", {5, 1}}, {"freq_hist_data_bar_values", {1.0, 3.0}},
                           {"topkCosSimIndices", {1}}, {"topkCosSimValues", {0.5}},
                           {"activations", activations}}));
}

TEST_F(Interchange, NeuronpediaGetsTheIntervalInWhichAnExampleLies) {
  fs::create_directory(folder_ / "description");
  std::string lines;
  for (int64_t latent = 0; latent < 3; ++latent) lines += measured(latent).to_json().dump() + "\n";
  write_file(folder_ / "description" / "latents.jsonl", lines);
  write_dictionary(*put_together(random_parts("relu", 3, 3)), "neuronpedia", folder_ / "n", {.description = folder_ / "description"});
  const Json activations = gzipped_lines(folder_ / "n" / "features" / "batch-0.jsonl.gz")[0]["activations"];
  ASSERT_EQ(activations.size(), 3u);
  EXPECT_EQ(activations[1]["binMin"], 2.0);  // (2, 4] holds one of 6 firings, which are 3 % of all tokens
  EXPECT_EQ(activations[1]["binMax"], 4.0);
  EXPECT_NEAR(activations[1]["binContains"].get<double>(), 0.03 / 6, 1e-12);
  EXPECT_EQ(activations[2]["binMin"], 0.0);  // an upper bound belongs to its interval
  EXPECT_EQ(activations[2]["binMax"], 2.0);
  // Tokens at which it does not fire lie in the lowest.
  EXPECT_NEAR(activations[2]["binContains"].get<double>(), 0.97 + 0.03 * 5 / 6, 1e-12);
}

TEST_F(Interchange, ADescriptionOfAnotherDictionaryIsRefused) {
  fs::create_directory(folder_ / "description");
  write_file(folder_ / "description" / "latents.jsonl", measured(0).to_json().dump() + "\n");
  EXPECT_TRUE(contains(error_from([&] {
    write_dictionary(*put_together(random_parts("relu")), "neuronpedia", folder_ / "n", {.description = folder_ / "description"});
  }), {"latents.jsonl", "latent 1", "another dictionary"}));
  EXPECT_FALSE(fs::exists(folder_ / "n"));
}

// Folding

RC_GTEST_PROP(Folding, DecoderNormsChangeNoReconstruction, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const auto architecture = *rc::gen::element<std::string>("relu", "jumprelu", "gated", "batchtopk");
  DictionaryParts parts = random_parts(architecture, *rc::gen::inRange<int64_t>(1, 30), *rc::gen::inRange<int64_t>(1, 9));
  const auto before = put_together(parts);
  const bool scaled = *rc::gen::arbitrary<bool>();
  const double scale = scaled ? 0.01 + *rc::gen::inRange(1, 400) / 100.0 : 1.0;
  const torch::Tensor x = clear_rows(*before, torch::randn({40, before->width()}) * 2);
  // The scaled inputs are what the dictionary was for.
  if (scaled) fold_input_scale(parts, scale);
  fold_decoder_norms(parts);
  const auto after = put_together(parts);
  RC_ASSERT(((after->atoms().norm(2, {1}) - 1).abs() < 1e-5).all().item<bool>());
  if (x.size(0) == 0) return;
  const torch::Tensor wanted = before->decode(before->encode(x));
  const SparseCodes codes = after->encode(x / scale);
  RC_ASSERT(difference(after->decode(codes) * scale, wanted) < 1e-4 * (1 + wanted.abs().max().item<double>()));
  RC_ASSERT(torch::equal(codes.atoms, before->encode(x).atoms));
}

TEST(Folding, TopKIsRefusedWhereOthersWouldBeSelected) {
  torch::manual_seed(1);
  DictionaryParts parts = random_parts("topk");
  EXPECT_TRUE(contains(error_from([&] { fold_decoder_norms(parts); }), {"norms", "k largest"}));
  parts.weights.decoder = parts.weights.decoder / parts.weights.decoder.norm(2, {1}, true) * 3;
  const auto before = put_together(parts);
  fold_decoder_norms(parts);
  const torch::Tensor x = torch::randn({30, kWidth});
  const auto after = put_together(parts);
  EXPECT_LT(difference(before->decode(before->encode(x)), after->decode(after->encode(x))), 1e-5);
}

TEST(Folding, AZeroAtomStaysZero) {
  DictionaryParts parts = random_parts("relu");
  parts.weights.decoder[2].zero_();
  fold_decoder_norms(parts);
  EXPECT_TRUE(torch::isfinite(parts.weights.encoder).all().item<bool>());
  EXPECT_EQ(parts.weights.decoder[2].abs().max().item<float>(), 0.0f);
}

// The C++ side of interchange_oracle.py: for each folder NAME of SEMEME_ORACLE_FOLDER/in, codes and reconstructions of x.npy.
TEST(InterchangeOracle, DISABLED_EncodesWithEveryDictionaryOfTheFolder) {
  const char* const root = std::getenv("SEMEME_ORACLE_FOLDER");
  ASSERT_NE(root, nullptr) << "run tests/features/interchange_oracle.py";
  set_quiet(true);
  for (const auto& entry : fs::directory_iterator(fs::path(root) / "in")) {
    const fs::path folder = entry.path();
    const NpyFile file(fs::path(root) / "x.npy");
    const torch::Tensor x = weight_of({"x", file.dtype(), file.shape(), file.data()}, file.shape(), fs::path(root) / "x.npy");
    const fs::path out = fs::path(root) / "out" / (folder.filename().string() + ".safetensors");
    try {
      const auto dictionary = load_dictionary(folder);
      const SparseCodes codes = dictionary->encode(x);
      save_tensors(out, {{"codes", dense(codes, dictionary->size())}, {"reconstruction", dictionary->decode(codes)}});
    } catch (const Error& error) {
      write_file(out.string() + ".error", error.what());
    }
  }
}

/// Random dictionaries of every architecture in every format that holds it, for the peers to load.
TEST(InterchangeOracle, DISABLED_WritesEveryFormat) {
  const char* const root = std::getenv("SEMEME_ORACLE_FOLDER");
  ASSERT_NE(root, nullptr) << "run tests/features/interchange_oracle.py";
  set_quiet(true);
  torch::manual_seed(5);
  const std::vector<std::string> all = {"relu", "topk", "jumprelu", "batchtopk", "gated"};
  for (const auto& [format, architectures] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"saelens", all}, {"dictionary-learning", all}, {"sparsify", {"topk"}}, {"gemma-scope", {"relu", "jumprelu", "batchtopk"}}}) {
    for (const std::string& architecture : architectures) {
      const auto dictionary = put_together(random_parts(architecture, 96, 16));
      write_dictionary(*dictionary, format, fs::path(root) / "in" / (format + "." + architecture));
    }
  }
}

}  // namespace
}  // namespace sememe
