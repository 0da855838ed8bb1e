#include "sememe/features/threshold_dictionary.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>

#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

AutoencoderWeights random_weights(int64_t latents, int64_t width) {
  return {torch::randn({latents, width}), torch::randn({latents}), torch::randn({latents, width}), torch::randn({width})};
}

/// Codes as a dense matrix.
torch::Tensor dense(const SparseCodes& codes, int64_t latents) {
  torch::Tensor matrix = torch::zeros({codes.rows(), latents});
  for (int64_t row = 0; row < codes.rows(); ++row)
    for (int64_t i = codes.offsets[row].item<int64_t>(); i < codes.offsets[row + 1].item<int64_t>(); ++i)
      matrix[row][codes.atoms[i].item<int64_t>()] = codes.values[i];
  return matrix;
}

RC_GTEST_PROP(ThresholdDictionary, FiresAboveEachThreshold, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const int64_t latents = *rc::gen::inRange<int64_t>(1, 20), width = *rc::gen::inRange<int64_t>(1, 5);
  const int64_t rows = *rc::gen::inRange<int64_t>(0, 40);
  // Whole numbers make sums exact, and pre-activations that equal their threshold common.
  const auto whole = [](at::IntArrayRef shape) { return torch::randint(-2, 3, shape).to(torch::kFloat); };
  const AutoencoderWeights weights{whole({latents, width}), whole({latents}), whole({latents, width}), whole({width})};
  const torch::Tensor thresholds = whole({latents}), x = whole({rows, width});
  const ThresholdDictionary dictionary(weights, thresholds, "jumprelu", Json::object());
  const torch::Tensor u = torch::mm(x - weights.decoder_bias, weights.encoder.t()) + weights.encoder_bias;
  const torch::Tensor wanted = u.relu() * (u > thresholds);
  const SparseCodes codes = dictionary.encode(x);
  RC_ASSERT(torch::equal(dense(codes, latents), wanted));
  RC_ASSERT(codes.values.numel() == (wanted > 0).sum().item<int64_t>());
  RC_ASSERT(torch::allclose(dictionary.decode(codes), torch::mm(wanted, weights.decoder) + weights.decoder_bias));
}

TEST(ThresholdDictionary, EncodesManyRowsAsItEncodesEach) {
  torch::manual_seed(1);
  const int64_t latents = 1 << 18;  // 64 MiB of pre-activations are 64 rows
  const ThresholdDictionary dictionary(random_weights(latents, 1), torch::full({latents}, 3.0), "relu", Json::object());
  torch::Tensor x = torch::randn({130, 1});
  const SparseCodes all = dictionary.encode(x);
  for (const int64_t row : {0, 63, 64, 129}) {
    const SparseCodes one = dictionary.encode(x.narrow(0, row, 1));
    const int64_t begin = all.offsets[row].item<int64_t>(), count = all.offsets[row + 1].item<int64_t>() - begin;
    ASSERT_GT(count, 0);
    EXPECT_TRUE(torch::equal(all.atoms.narrow(0, begin, count), one.atoms)) << row;
  }
  x[129][0] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(x); }), {"row 129"}));
}

TEST(ThresholdDictionary, WrongInputsAreRefused) {
  const ThresholdDictionary dictionary(AutoencoderWeights::zeros(3, 2), torch::zeros({3}), "relu", Json::object());
  torch::Tensor x = torch::zeros({5, 2});
  x[4][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(x); }), {"row 4", "latent 0", "nan"}));
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(torch::zeros({5, 3})); }), {"width 2", "[5, 3]"}));
  EXPECT_THROW(ThresholdDictionary(AutoencoderWeights::zeros(3, 2), torch::zeros({4}), "relu", Json::object()), Error);
}

class ThresholdFolder : public ScratchFolder {};

TEST_F(ThresholdFolder, LoadingGivesBackEveryBit) {
  torch::manual_seed(2);
  const ThresholdDictionary saved(random_weights(6, 4), torch::rand({6}), "jumprelu", Json{{"site", "blocks.1.output"}});
  saved.save(folder_);
  const Json config = read_json(folder_ / "config.json");
  EXPECT_EQ(config["site"], "blocks.1.output");
  EXPECT_EQ(config["architecture"], "jumprelu");
  const auto loaded = load_threshold(config, SafetensorsFile(folder_ / "dictionary.safetensors"));
  EXPECT_EQ(loaded->architecture(), "jumprelu");
  const torch::Tensor x = torch::randn({20, 4});
  EXPECT_TRUE(torch::equal(loaded->decode(loaded->encode(x)), saved.decode(saved.encode(x))));
  std::filesystem::create_directory(folder_ / "again");
  loaded->save(folder_ / "again");
  EXPECT_EQ(read_file(folder_ / "again" / "dictionary.safetensors"), read_file(folder_ / "dictionary.safetensors"));
  EXPECT_EQ(read_file(folder_ / "again" / "config.json"), read_file(folder_ / "config.json"));
}

TEST_F(ThresholdFolder, AThresholdOfAnotherShapeIsNamed) {
  ThresholdDictionary(random_weights(6, 4), torch::rand({6}), "relu", Json::object()).save(folder_);
  const Json config = read_json(folder_ / "config.json");
  NamedTensors tensors = random_weights(6, 4).named();
  const auto message = [&] {
    save_tensors(folder_ / "dictionary.safetensors", tensors);
    return error_from([&] { load_threshold(config, SafetensorsFile(folder_ / "dictionary.safetensors")); });
  };
  EXPECT_TRUE(contains(message(), {"dictionary.safetensors", "threshold"}));
  tensors.emplace_back("threshold", torch::rand({5}));
  EXPECT_TRUE(contains(message(), {"dictionary.safetensors", "threshold", "5"}));
}

}  // namespace
}  // namespace sememe
