#include "sememe/inference/neuron_profile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "sememe/base/files.h"
#include "tests/formats/error_text.h"
#include "tests/inference/small_gguf.h"

namespace sememe {
namespace {

/// Every value of one input of one layer.
struct Recorder : InputVisitor {
  MatrixInput input;
  std::vector<float> values;
  std::mutex mutex;
  bool wants(int64_t layer, MatrixInput asked) const override { return layer == 1 && asked == input; }
  void visit(const InputRows& rows, int64_t first, int64_t last, int, int) override {
    const std::lock_guard lock(mutex);
    for (int64_t t = first; t < last; ++t) values.insert(values.end(), rows.values + t * rows.stride, rows.values + t * rows.stride + rows.width);
  }
};

class Profiles : public testing::Test {
 protected:
  Profiles() : file_({.type = GgmlType::kQ8_0}), engine_(file_.path(), 2), texts_(small_texts(12, 25)), profile_(make_profile(engine_, texts_, {})) {}
  SmallGgufFile file_;
  QuantizedTransformer engine_;
  std::vector<std::vector<int32_t>> texts_;
  NeuronProfile profile_;
};

TEST_F(Profiles, QuantilesAreThoseOfTheValues) {
  for (int input = 0; input < kMatrixInputs; ++input) {
    Recorder recorder;
    recorder.input = static_cast<MatrixInput>(input);
    for (const std::vector<int32_t>& ids : texts_) {
      TokenCache cache(engine_.config());
      const TokenRun run{ids, &cache};
      engine_.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &recorder});
    }
    for (float& value : recorder.values) value = std::abs(value);
    std::sort(recorder.values.begin(), recorder.values.end());
    for (const double below : {0.1, 0.5, 0.9, 0.99}) {
      const float exact = recorder.values[static_cast<size_t>(below * static_cast<double>(recorder.values.size()))];
      EXPECT_NEAR(NeuronProfile::quantile(profile_.inputs[1][input], below), exact, 0.02 * exact) << input << " " << below;
    }
    EXPECT_GE(NeuronProfile::quantile(profile_.inputs[1][input], 1.0), recorder.values.back());
  }
}

TEST_F(Profiles, CountsAreThoseOfTheTextsWhateverTheThreads) {
  EXPECT_EQ(profile_.tokens, 12 * 25);
  QuantizedTransformer alone(file_.path(), 1);
  const NeuronProfile other = make_profile(alone, texts_, {});
  EXPECT_EQ(profile_.core, other.core);
  EXPECT_EQ(profile_.positive, other.positive);
  EXPECT_EQ(profile_.gates, other.gates);
  EXPECT_EQ(profile_.clusters.of_texts, other.clusters.of_texts);
  CoreNeurons core(engine_.config(), {.token_share = 0.4}, {0, 1}, 2);
  std::vector<int32_t> counts(256);
  for (const std::vector<int32_t>& ids : texts_) {
    core.clear();
    TokenCache cache(engine_.config());
    const TokenRun run{ids, &cache};
    engine_.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &core});
    for (size_t i = 0; i < counts.size(); ++i) counts[i] += core.counts(1)[i];
  }
  EXPECT_EQ(profile_.core[1], counts);
  const std::vector<int32_t> ranking = profile_.by_frequency(1);
  EXPECT_EQ(ranking.size(), 256u);
  EXPECT_TRUE(std::is_sorted(ranking.begin(), ranking.end(),
                             [&](int32_t a, int32_t b) { return counts[a] > counts[b] || (counts[a] == counts[b] && a < b); }));
}

TEST_F(Profiles, TextsAreNearestToTheCentroidOfTheirCluster) {
  const NeuronClusters& clusters = profile_.clusters;
  EXPECT_GE(clusters.centroids.size(), 4u);
  CoreNeurons core(engine_.config(), {.token_share = 0.4}, {0, 1}, 2);
  for (size_t i = 0; i < texts_.size(); ++i) {
    core.clear();
    TokenCache cache(engine_.config());
    const TokenRun run{texts_[i], &cache};
    engine_.forward({&run, 1}, LogitsOf::kLastTokens, {.inputs = &core});
    const std::vector<float> vector = clusters.vector_of(core);
    EXPECT_EQ(std::count(vector.begin(), vector.end(), 1.0f), clusters.chosen);
    EXPECT_EQ(clusters.nearest(vector), static_cast<size_t>(clusters.of_texts[i])) << i;
  }
  ProfileOptions two;
  two.clusters = 2;
  EXPECT_EQ(make_profile(engine_, texts_, two).clusters.centroids.size(), 2u);
}

TEST_F(Profiles, AFolderHoldsWhatWasSaved) {
  const ScratchPath folder("profile");
  profile_.save(folder.path());
  const NeuronProfile found = NeuronProfile::load(folder.path(), engine_);
  EXPECT_EQ(found.core, profile_.core);
  EXPECT_EQ(found.positive, profile_.positive);
  EXPECT_EQ(found.sums, profile_.sums);
  EXPECT_EQ(found.inputs, profile_.inputs);
  EXPECT_EQ(found.gates, profile_.gates);
  EXPECT_EQ(found.tokens, profile_.tokens);
  EXPECT_EQ(found.clusters.centroids, profile_.clusters.centroids);
  EXPECT_EQ(found.clusters.rankings, profile_.clusters.rankings);
  EXPECT_EQ(found.clusters.of_texts, profile_.clusters.of_texts);
  EXPECT_EQ(found.clusters.layer, profile_.clusters.layer);
  EXPECT_EQ(found.predictors, nullptr);
  const std::vector<std::vector<int32_t>> lists = load_neuron_list(folder.path() / "neurons.json", engine_.config());
  EXPECT_EQ(lists[1], profile_.by_importance(1));
  std::filesystem::remove_all(folder.path());
}

TEST_F(Profiles, OfAnotherModelOrDamagedIsRefused) {
  const ScratchPath folder("profile");
  profile_.save(folder.path());
  const SmallGgufFile other({.type = GgmlType::kQ8_0, .seed = 2});
  EXPECT_TRUE(contains(error_from([&] { NeuronProfile::load(folder.path(), QuantizedTransformer(other.path(), 1)); }), {"another model"}));
  EXPECT_TRUE(contains(error_from([&] { NeuronProfile::load(folder.path() / "none", engine_); }), {"none", "model profile"}));
  const std::filesystem::path file = folder.path() / "profile.safetensors";
  const std::string whole = read_file(file);
  write_file(file, whole.substr(0, whole.size() / 2));
  EXPECT_NE(error_from([&] { NeuronProfile::load(folder.path(), engine_); }), "no error");
  std::string renamed = whole;
  renamed.replace(renamed.find("\"gates\""), 7, "\"goats\"");
  write_file(file, renamed);
  EXPECT_TRUE(contains(error_from([&] { NeuronProfile::load(folder.path(), engine_); }), {"gates"}));
  std::filesystem::remove_all(folder.path());
}

TEST_F(Profiles, AListOfNeuronsThatCannotBeIsRefused) {
  const ScratchPath path("neurons.json");
  const auto message = [&](const std::string& text) {
    write_file(path.path(), text);
    return error_from([&] { load_neuron_list(path.path(), engine_.config()); });
  };
  EXPECT_EQ(message(R"({"neurons": [[3, 1, -1, -1], [0]]})"), "no error");
  EXPECT_TRUE(contains(message(R"({"neurons": [[3]]})"), {"1 layers", "2"}));
  EXPECT_TRUE(contains(message(R"({"neurons": [[3], [256]]})"), {"neuron 256 of layer 1"}));
  EXPECT_TRUE(contains(message(R"({"neurons": [[3, 3], [0]]})"), {"neuron 3 of layer 0"}));
  EXPECT_TRUE(contains(message(R"({"neurons": 7})"), {"neurons"}));
}

TEST_F(Profiles, WithoutTextIsRefused) {
  EXPECT_TRUE(contains(error_from([&] { make_profile(engine_, {}, {}); }), {"no text"}));
  ProfileOptions options;
  options.cluster_layer = 2;
  EXPECT_TRUE(contains(error_from([&] { make_profile(engine_, texts_, options); }), {"layer 2", "0 to 1"}));
}

TEST(NeuronPredictors, AFileHoldsWhatWasSaved) {
  const ScratchPath path("predictors.safetensors");
  std::vector<float> down(3 * 20), up(33 * 3), offset(33);
  for (size_t i = 0; i < down.size(); ++i) down[i] = static_cast<float>(i) * 0.25f - 3;
  for (size_t i = 0; i < up.size(); ++i) up[i] = 2 - static_cast<float>(i) * 0.125f;
  for (size_t i = 0; i < offset.size(); ++i) offset[i] = static_cast<float>(i);
  const std::vector<NeuronPredictor> saved(2, NeuronPredictor(20, 3, down, up, offset));
  NeuronPredictor::save(path.path(), saved);
  const std::vector<NeuronPredictor> found = NeuronPredictor::load(path.path(), 2, 20, 33);
  std::vector<float> input(20), hidden(16), wanted(48), logits(48);
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i % 5) - 2;
  saved[1].predict(input.data(), hidden.data(), wanted.data());
  found[1].predict(input.data(), hidden.data(), logits.data());
  EXPECT_EQ(logits, wanted);
  for (int64_t i = 0; i < 33; ++i) {  // by definition
    double logit = offset[i];
    for (int64_t j = 0; j < 3; ++j)
      for (int64_t k = 0; k < 20; ++k) logit += up[i * 3 + j] * down[j * 20 + k] * input[k];
    EXPECT_NEAR(logits[i], logit, 1e-3);
  }
  EXPECT_TRUE(contains(error_from([&] { NeuronPredictor::load(path.path(), 3, 20, 33); }), {"2.down"}));
  EXPECT_TRUE(contains(error_from([&] { NeuronPredictor::load(path.path(), 2, 21, 33); }), {"0.down", "21"}));
}

}  // namespace
}  // namespace sememe
