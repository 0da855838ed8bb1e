#include "sememe/features/gated_dictionary.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Gated {
  AutoencoderWeights weights{torch::randn({9, 4}), torch::randn({9}), torch::randn({9, 4}), torch::randn({4})};
  torch::Tensor log_magnitude = torch::randn({9}), magnitude_bias = torch::randn({9});
  GatedDictionary dictionary{weights, log_magnitude, magnitude_bias, Json{{"site", "blocks.1.output"}}};
};

TEST(GatedDictionary, OneHalfSaysWhetherTheOtherHowStrongly) {
  torch::manual_seed(1);
  const Gated gated;
  const torch::Tensor x = torch::randn({200, 4});
  const torch::Tensor p = torch::mm(x - gated.weights.decoder_bias, gated.weights.encoder.t());
  const torch::Tensor codes =
      (p * gated.log_magnitude.exp() + gated.magnitude_bias).relu() * (p + gated.weights.encoder_bias > 0);
  const SparseCodes found = gated.dictionary.encode(x);
  EXPECT_NEAR(static_cast<double>(found.values.numel()), (codes > 0).sum().item<double>(), 2);  // sums differ in rounding
  EXPECT_LT((gated.dictionary.decode(found) - torch::mm(codes, gated.weights.decoder) - gated.weights.decoder_bias).abs().max().item<double>(),
            1e-4);
}

TEST(GatedDictionary, AGateThatIsShutSilencesALargeMagnitude) {
  AutoencoderWeights weights = AutoencoderWeights::zeros(2, 1);
  weights.encoder.fill_(1.0);
  weights.encoder_bias.copy_(torch::tensor({-2.0f, -0.5f}));
  const GatedDictionary dictionary(weights, torch::zeros({2}), torch::full({2}, 7.0), Json::object());
  const SparseCodes codes = dictionary.encode(torch::ones({1, 1}));
  EXPECT_TRUE(torch::equal(codes.atoms, torch::tensor({1}, torch::kInt)));
  EXPECT_TRUE(torch::equal(codes.values, torch::tensor({8.0f})));
}

TEST(GatedDictionary, WrongInputsAreRefused) {
  torch::manual_seed(1);
  const Gated gated;
  torch::Tensor x = torch::zeros({5, 4});
  x[3][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { gated.dictionary.encode(x); }), {"row 3", "nan"}));
  EXPECT_THROW(GatedDictionary(gated.weights, torch::zeros({8}), torch::zeros({9}), Json::object()), Error);
  EXPECT_THROW(GatedDictionary(gated.weights, torch::zeros({9}), torch::zeros({8}), Json::object()), Error);
}

class GatedFolder : public ScratchFolder {};

TEST_F(GatedFolder, LoadingGivesBackEveryBit) {
  torch::manual_seed(2);
  const Gated gated;
  gated.dictionary.save(folder_);
  const auto loaded = load_gated(read_json(folder_ / "config.json"), SafetensorsFile(folder_ / "dictionary.safetensors"));
  EXPECT_EQ(loaded->architecture(), "gated");
  const torch::Tensor x = torch::randn({20, 4});
  EXPECT_TRUE(torch::equal(loaded->decode(loaded->encode(x)), gated.dictionary.decode(gated.dictionary.encode(x))));
  std::filesystem::create_directory(folder_ / "again");
  loaded->save(folder_ / "again");
  EXPECT_EQ(read_file(folder_ / "again" / "dictionary.safetensors"), read_file(folder_ / "dictionary.safetensors"));
  EXPECT_EQ(read_file(folder_ / "again" / "config.json"), read_file(folder_ / "config.json"));
}

}  // namespace
}  // namespace sememe
