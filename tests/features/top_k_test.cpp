#include "sememe/features/top_k.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "sememe/base/random.h"
#include "tests/features/learner_setting.h"
#include "tests/features/scratch_folder.h"

namespace sememe {
namespace {

struct Setting : LearnerSetting {
  explicit Setting(int64_t rows = 64) : LearnerSetting({.width = 12, .latents = 40, .k = 5, .seed = 3, .auxiliary_k = 4}, rows) {}
};

std::vector<torch::Tensor> tensors(const AutoencoderWeights& weights) {
  return {weights.encoder, weights.encoder_bias, weights.decoder, weights.decoder_bias};
}

torch::Tensor keep_largest(const torch::Tensor& values, int64_t k) {
  const auto [top, where] = values.topk(std::min(k, values.size(1)), 1);
  return torch::zeros_like(values).scatter(1, where, top.relu());
}

/// The loss by dense tensors in float64, as Gao et al. write it. `dead` latents model the error that the first call left (a constant of
/// the stated loss).
class DenseLoss {
 public:
  DenseLoss(const TopKLearner& learner, const Setting& setting, std::vector<int64_t> dead)
      : k_(setting.options.k), auxiliary_k_(setting.options.auxiliary_k), dead_(std::move(dead)) {
    const double scale = learner.input_scale();
    x_ = setting.x.to(torch::kDouble) * scale;
    spread_ = static_cast<double>(setting.x.size(0)) * setting.statistics.variance * scale * scale;
  }

  torch::Tensor operator()(const std::vector<torch::Tensor>& weights) {
    const torch::Tensor &encoder = weights[0], &encoder_bias = weights[1], &decoder = weights[2], &bias = weights[3];
    const torch::Tensor u = torch::mm(x_ - bias, encoder.t()) + encoder_bias;
    const torch::Tensor error = x_ - (torch::mm(keep_largest(u, k_), decoder) + bias);
    const torch::Tensor loss = error.square().sum() / spread_;
    if (dead_.empty()) return loss;
    if (!error_.defined()) error_ = error.detach();
    const torch::Tensor index = torch::tensor(dead_);
    const torch::Tensor guess =
        torch::mm(keep_largest(u.index_select(1, index), auxiliary_k_), decoder.index_select(0, index));
    return loss + (error_ - guess).square().sum() / (error_ - error_.mean(0)).square().sum() / 32.0;
  }

 private:
  int64_t k_, auxiliary_k_;
  std::vector<int64_t> dead_;
  double spread_ = 0.0;
  torch::Tensor x_, error_;
};

std::vector<int64_t> dead_latents(const TopKLearner& learner, int64_t dead_after) {
  const torch::Tensor dead = (learner.rows_since_selected() >= dead_after).nonzero().squeeze(1);
  return {dead.data_ptr<int64_t>(), dead.data_ptr<int64_t>() + dead.numel()};
}

/// The largest difference of a gradient from autograd's in float64, in parts of the latter's norm; infinite if the loss differs.
double difference_from_autograd(TopKLearner& learner, const Setting& setting, const std::vector<int64_t>& dead) {
  const StepReport report = learner.compute_gradients({setting.x, {}});
  std::vector<torch::Tensor> leaves;
  for (const torch::Tensor& weight : tensors(learner.weights()))
    leaves.push_back(weight.to(torch::kDouble).detach().requires_grad_(true));
  torch::Tensor loss = DenseLoss(learner, setting, dead)(leaves);
  loss.backward();
  if (std::abs(report.loss - loss.item<double>()) > 1e-5 * (1.0 + loss.item<double>())) return std::numeric_limits<double>::infinity();
  double largest = 0.0;
  const std::vector<torch::Tensor> found = tensors(learner.gradients());
  for (size_t i = 0; i < found.size(); ++i) {
    const double norm = leaves[i].grad().norm().item<double>();
    largest = std::max(largest, (found[i].to(torch::kDouble) - leaves[i].grad()).norm().item<double>() / (norm + 1e-6));
  }
  return largest;
}

TEST(TopKLearner, GradientsEqualAutograd) {
  const Setting setting;
  TopKLearner learner(setting.options, setting.statistics);
  EXPECT_LT(difference_from_autograd(learner, setting, {}), 1e-4);
}

TEST(TopKLearner, GradientsWithDeadLatentsEqualAutograd) {
  Setting setting;
  setting.options.dead_after = 1;  // after a first step, what that step did not select is dead
  TopKLearner learner(setting.options, setting.statistics);
  learner.step({setting.x.narrow(0, 0, 3), {}}, 1e-3);
  const std::vector<int64_t> dead = dead_latents(learner, 1);
  ASSERT_GT(dead.size(), 5u);
  ASSERT_LT(dead.size(), 40u);
  EXPECT_LT(difference_from_autograd(learner, setting, dead), 1e-4);
}

RC_GTEST_PROP(TopKLearner, GradientsEqualAutogradAtAnySize, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 1000));
  Setting setting;
  setting.options.width = *rc::gen::inRange<int64_t>(2, 10);  // with one dimension all latents tie
  setting.options.latents = *rc::gen::inRange<int64_t>(1, 30);
  setting.options.k = *rc::gen::inRange<int64_t>(1, setting.options.latents + 1);
  setting.options.auxiliary_k = *rc::gen::inRange<int64_t>(0, 6);
  setting.options.dead_after = 1;
  setting.draw(*rc::gen::inRange<int64_t>(2, 20));
  TopKLearner learner(setting.options, setting.statistics);
  learner.step({setting.x.narrow(0, 0, 1), {}}, 1e-3);
  std::vector<int64_t> dead = dead_latents(learner, 1);
  if (setting.options.auxiliary_k == 0) dead.clear();
  RC_PRE(learner.compute_gradients({setting.x, {}}).fvu > 1e-3);  // AuxK of an error that is rounding says nothing
  RC_ASSERT(difference_from_autograd(learner, setting, dead) < 1e-3);
}

TEST(TopKLearner, GradientsEqualFiniteDifferences) {
  for (const bool with_dead : {false, true}) {
    Setting setting;
    if (with_dead) setting.options.dead_after = 1;
    TopKLearner learner(setting.options, setting.statistics);
    if (with_dead) learner.step({setting.x.narrow(0, 0, 3), {}}, 1e-3);
    DenseLoss loss(learner, setting, with_dead ? dead_latents(learner, 1) : std::vector<int64_t>());
    learner.compute_gradients({setting.x, {}});
    std::vector<torch::Tensor> weights;
    for (const torch::Tensor& weight : tensors(learner.weights())) weights.push_back(weight.to(torch::kDouble));
    loss(weights);  // fixes the error that the dead latents model
    const std::vector<torch::Tensor> found = tensors(learner.gradients());
    for (size_t i = 0; i < weights.size(); ++i) {
      // Along the gradient itself the slope is its norm.
      const torch::Tensor direction = found[i].to(torch::kDouble) / found[i].norm().item<double>();
      const auto at = [&](double distance) {
        std::vector<torch::Tensor> moved = weights;
        moved[i] = weights[i] + direction * distance;
        return loss(moved).item<double>();
      };
      const double norm = found[i].norm().item<double>();
      EXPECT_NEAR((at(1e-6) - at(-1e-6)) / 2e-6, norm, 1e-4 * norm) << "tensor " << i << ", dead latents " << with_dead;
    }
  }
}

TEST(TopKLearner, MultiTopKAddsAnEighthOfTheLossWithFourTimesTheCodes) {
  Setting setting;
  setting.options.multi_top_k = true;
  TopKLearner learner(setting.options, setting.statistics);
  const StepReport report = learner.compute_gradients({setting.x, {}});
  Setting more;
  more.options.k = 20;
  std::vector<torch::Tensor> leaves;
  for (const torch::Tensor& weight : tensors(learner.weights()))
    leaves.push_back(weight.to(torch::kDouble).detach().requires_grad_(true));
  torch::Tensor loss = DenseLoss(learner, setting, {})(leaves) + DenseLoss(learner, more, {})(leaves) / 8.0;
  loss.backward();
  EXPECT_NEAR(report.loss, loss.item<double>(), 1e-5 * report.loss);
  for (size_t i = 0; i < leaves.size(); ++i) {
    const torch::Tensor found = tensors(learner.gradients())[i].to(torch::kDouble);
    EXPECT_LT((found - leaves[i].grad()).norm().item<double>(), 1e-4 * leaves[i].grad().norm().item<double>()) << i;
  }
}

TEST(TopKLearner, KeepsDecoderRowsAtUnitNorm) {
  const Setting setting;
  TopKLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 50; ++step) {
    learner.step({setting.x, {}}, 0.1);
    ASSERT_LT((learner.weights().decoder.norm(2, {1}) - 1.0).abs().max().item<double>(), 1e-5) << step;
  }
}

TEST(TopKLearner, UnscaledInputsAreReconstructedAsScaledOnes) {
  Setting setting;
  setting.x = setting.x * 100.0;
  setting.statistics = measure_activations(setting.x);
  TopKLearner learner(setting.options, setting.statistics);
  for (int step = 0; step < 200; ++step) learner.step({setting.x, {}}, 1e-2);
  const double fvu = learner.compute_gradients({setting.x, {}}).fvu;
  const auto dictionary = learner.dictionary(Json::object());
  const torch::Tensor output = dictionary->decode(dictionary->encode(setting.x));
  const double outside = (setting.x - output).square().sum().item<double>() / (64 * setting.statistics.variance);
  EXPECT_NEAR(outside, fvu, 1e-3 * fvu);
  EXPECT_LT((dictionary->atoms().norm(2, {1}) - 1.0).abs().max().item<double>(), 1e-5);
}

TEST(TopKLearner, CountsRowsSinceALatentWasSelected) {
  Setting setting;
  setting.options.dead_after = 100;
  TopKLearner learner(setting.options, setting.statistics);
  const torch::Tensor row = setting.x.narrow(0, 0, 1).expand({60, 12}).contiguous();
  EXPECT_EQ(learner.step({row, {}}, 0.0).dead, 0);
  // The same row again, with a rate of 0: at most 5 latents are ever selected.
  const StepReport report = learner.step({row, {}}, 0.0);
  EXPECT_EQ(report.dead, 40 - static_cast<int64_t>(report.l0));
  EXPECT_EQ(learner.rows_since_selected().max().item<int64_t>(), 120);
  EXPECT_EQ(learner.rows_since_selected().min().item<int64_t>(), 0);
}

TEST(TopKLearner, SelectsAtMostKOfARow) {
  const Setting setting;
  TopKLearner learner(setting.options, setting.statistics);
  EXPECT_LE(learner.compute_gradients({setting.x, {}}).l0, 5.0);
}

TEST(TopKLearner, ALossThatIsNotFiniteNamesTheStepAndTheRemedy) {
  // 1e15 makes the squares overflow, 1e30 the pre-activations themselves.
  for (const double rate : {1e15, 1e30}) {
    const Setting setting;
    TopKLearner learner(setting.options, setting.statistics);
    const std::string message = error_from([&] {
      for (int step = 0; step < 10; ++step) learner.step({setting.x, {}}, rate);
    });
    EXPECT_TRUE(contains(message, {"step 2", "lower --learning-rate"})) << rate;
  }
}

TEST(TopKLearner, NaNInputIsRefused) {
  Setting setting;
  TopKLearner learner(setting.options, setting.statistics);
  setting.x[3][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { learner.step({setting.x, {}}, 1e-3); }), {"row 3", "nan"}));
}

class TopKLearnerFiles : public ScratchFolder {};

TEST_F(TopKLearnerFiles, ARestoredLearnerGoesOnTheSame) {
  const Setting setting;
  TopKLearner first(setting.options, setting.statistics);
  for (int step = 0; step < 3; ++step) first.step({setting.x, {}}, 1e-2);
  save_tensors(folder_ / "state", first.state());
  TopKLearner second(setting.options, setting.statistics);
  second.restore(SafetensorsFile(folder_ / "state"));
  first.step({setting.x, {}}, 1e-2);
  second.step({setting.x, {}}, 1e-2);
  for (size_t i = 0; i < first.state().size(); ++i) EXPECT_TRUE(torch::equal(first.state()[i].second, second.state()[i].second));
}

TEST_F(TopKLearnerFiles, AStateOfAnotherSizeIsRefusedByName) {
  Setting setting;
  save_tensors(folder_ / "state", TopKLearner(setting.options, setting.statistics).state());
  setting.options.latents = 41;
  TopKLearner larger(setting.options, setting.statistics);
  EXPECT_TRUE(contains(error_from([&] { larger.restore(SafetensorsFile(folder_ / "state")); }), {"state", "rows_since_selected"}));
}

/// Small whole numbers, so that sums are exact in float32 and ties are common.
torch::Tensor whole_numbers(at::IntArrayRef shape, int64_t largest) {
  return torch::randint(-largest, largest + 1, shape).to(torch::kFloat);
}

AutoencoderWeights whole_weights(int64_t latents, int64_t width) {
  return {whole_numbers({latents, width}, 2), whole_numbers({latents}, 2), whole_numbers({latents, width}, 2),
          whole_numbers({width}, 2)};
}

RC_GTEST_PROP(TopKDictionary, EncodesAsSortingDoes, ()) {
  torch::manual_seed(*rc::gen::inRange(0, 100000));
  const int64_t latents = *rc::gen::inRange<int64_t>(1, 20), width = *rc::gen::inRange<int64_t>(1, 5);
  const int64_t k = *rc::gen::inRange<int64_t>(1, latents + 1), rows = *rc::gen::inRange<int64_t>(0, 9);
  const TopKDictionary dictionary(whole_weights(latents, width), k, Json::object());
  const torch::Tensor x = whole_numbers({rows, width}, 3);
  const SparseCodes codes = dictionary.encode(x);
  const AutoencoderWeights& weights = dictionary.weights();
  const torch::Tensor u = torch::mm(x - weights.decoder_bias, weights.encoder.t()) + weights.encoder_bias;
  RC_ASSERT(codes.rows() == rows);
  torch::Tensor output = weights.decoder_bias.expand({rows, width}).clone();
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<int64_t> order(latents);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return u[row][a].item<float>() > u[row][b].item<float>(); });
    order.resize(k);
    std::erase_if(order, [&](int64_t latent) { return u[row][latent].item<float>() <= 0; });
    std::sort(order.begin(), order.end());
    const int64_t begin = codes.offsets[row].item<int64_t>(), end = codes.offsets[row + 1].item<int64_t>();
    RC_ASSERT(end - begin == static_cast<int64_t>(order.size()));
    for (int64_t entry = begin; entry < end; ++entry) {
      const int64_t latent = order[entry - begin];
      RC_ASSERT(codes.atoms[entry].item<int32_t>() == latent);
      RC_ASSERT(codes.values[entry].item<float>() == u[row][latent].item<float>());
      output[row] += u[row][latent] * weights.decoder[latent];
    }
  }
  RC_ASSERT(torch::equal(dictionary.decode(codes), output));
}

TEST(TopKDictionary, TiesGoToTheLowerLatent) {
  AutoencoderWeights weights = AutoencoderWeights::zeros(4, 1);
  weights.encoder.copy_(torch::tensor({1.0f, 2.0f, 2.0f, 2.0f}).unsqueeze(1));
  const SparseCodes codes = TopKDictionary(weights, 2, Json::object()).encode(torch::ones({1, 1}));
  EXPECT_TRUE(torch::equal(codes.atoms, torch::tensor({1, 2}, torch::kInt)));
}

TEST(TopKDictionary, FewerPositiveThanKAreFewerCodes) {
  AutoencoderWeights weights = AutoencoderWeights::zeros(3, 1);
  weights.encoder.copy_(torch::tensor({-1.0f, 0.0f, 2.0f}).unsqueeze(1));
  const SparseCodes codes = TopKDictionary(weights, 3, Json::object()).encode(torch::ones({1, 1}));
  EXPECT_TRUE(torch::equal(codes.atoms, torch::tensor({2}, torch::kInt)));
  EXPECT_TRUE(torch::equal(codes.values, torch::tensor({2.0f})));
}

TEST(TopKDictionary, WithAsManyCodesAsLatentsIsRelu) {
  AutoencoderWeights weights = AutoencoderWeights::zeros(9, 4);
  torch::manual_seed(1);
  weights.encoder.normal_();
  weights.decoder.normal_();
  weights.decoder_bias.normal_();
  const TopKDictionary dictionary(weights, 9, Json::object());
  const torch::Tensor x = torch::randn({30, 4});
  const torch::Tensor wanted =
      torch::mm(torch::mm(x - weights.decoder_bias, weights.encoder.t()).relu(), weights.decoder) + weights.decoder_bias;
  EXPECT_LT((dictionary.decode(dictionary.encode(x)) - wanted).abs().max().item<double>(), 1e-4);
}

TEST(TopKDictionary, EncodesManyRowsAsItEncodesEach) {
  // 64 MiB of pre-activations are 64 rows here: 150 rows are three parts.
  torch::manual_seed(1);
  AutoencoderWeights weights = AutoencoderWeights::zeros(1 << 18, 1);
  weights.encoder.normal_();
  const TopKDictionary dictionary(weights, 3, Json::object());
  const torch::Tensor x = torch::randn({150, 1});
  const SparseCodes all = dictionary.encode(x);
  ASSERT_EQ(all.rows(), 150);
  for (const int64_t row : {0, 1, 63, 64, 65, 127, 128, 149}) {
    const SparseCodes one = dictionary.encode(x.narrow(0, row, 1));
    const int64_t begin = all.offsets[row].item<int64_t>(), count = all.offsets[row + 1].item<int64_t>() - begin;
    ASSERT_EQ(count, 3);
    EXPECT_TRUE(torch::equal(all.atoms.narrow(0, begin, count), one.atoms)) << row;
    EXPECT_TRUE(torch::equal(all.values.narrow(0, begin, count), one.values)) << row;
  }
}

TEST(TopKDictionary, WrongInputsAreRefused) {
  const TopKDictionary dictionary(AutoencoderWeights::zeros(3, 2), 1, Json::object());
  torch::Tensor x = torch::zeros({5, 2});
  x[4][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(x); }), {"row 4", "nan"}));
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(torch::zeros({5, 3})); }), {"width 2", "[5, 3]"}));
  EXPECT_TRUE(contains(error_from([&] { dictionary.encode(torch::zeros({2})); }), {"width 2", "[2]"}));
}

TEST(TopKDictionary, CodesOfAnotherDictionaryAreRefused) {
  const TopKDictionary dictionary(AutoencoderWeights::zeros(3, 2), 1, Json::object());
  const SparseCodes codes{torch::tensor({0, 1}, torch::kLong), torch::tensor({3}, torch::kInt), torch::ones({1})};
  EXPECT_THROW(dictionary.decode(codes), Error);
}

class TopKFolder : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    torch::manual_seed(1);
    AutoencoderWeights weights = AutoencoderWeights::zeros(6, 4);
    for (const torch::Tensor& tensor : tensors(weights)) torch::Tensor(tensor).normal_();
    dictionary_ = std::make_shared<TopKDictionary>(weights, 2, Json{{"site", "blocks.1.output"}});
    dictionary_->save(folder_);
  }
  /// What loading says after one member of config.json was changed.
  std::string message_with(const char* key, const Json& value) {
    Json config = read_json(folder_ / "config.json");
    config[key] = value;
    write_json(folder_ / "config.json", config);
    return message();
  }
  /// What loading says after one tensor was replaced, or taken away if undefined.
  std::string message_with_tensor(const std::string& name, const torch::Tensor& replacement) {
    NamedTensors kept;
    for (const auto& [each, tensor] : dictionary_->weights().named())
      if (each != name || replacement.defined()) kept.emplace_back(each, each == name ? replacement : tensor);
    save_tensors(folder_ / "dictionary.safetensors", kept);
    return message();
  }
  std::string message() {
    return error_from([&] { load_dictionary(folder_); });
  }
  std::shared_ptr<TopKDictionary> dictionary_;
};

TEST_F(TopKFolder, LoadingGivesBackEveryBit) {
  const auto loaded = std::dynamic_pointer_cast<TopKDictionary>(load_dictionary(folder_));
  ASSERT_TRUE(loaded);
  for (size_t i = 0; i < 4; ++i)
    EXPECT_TRUE(torch::equal(tensors(loaded->weights())[i], tensors(dictionary_->weights())[i])) << i;
  EXPECT_EQ(loaded->k(), 2);
  EXPECT_EQ(read_json(folder_ / "config.json")["site"], "blocks.1.output");
  std::filesystem::create_directory(folder_ / "again");
  loaded->save(folder_ / "again");
  EXPECT_EQ(read_file(folder_ / "again" / "dictionary.safetensors"), read_file(folder_ / "dictionary.safetensors"));
  EXPECT_EQ(read_file(folder_ / "again" / "config.json"), read_file(folder_ / "config.json"));
}

TEST_F(TopKFolder, AConfigThatCannotBeIsNamed) {
  EXPECT_TRUE(contains(message_with("k", 7), {"config.json", "k 7"}));
  EXPECT_TRUE(contains(message_with("k", 0), {"config.json", "k 0"}));
  EXPECT_TRUE(contains(message_with("k", 1.5), {"config.json", "\"k\""}));
  EXPECT_TRUE(contains(message_with("k", Json()), {"config.json", "\"k\""}));
  EXPECT_TRUE(contains(message_with("k", 2), {"no error"}));
  EXPECT_TRUE(contains(message_with("latents", 5), {"dictionary.safetensors", "encoder"}));
  EXPECT_TRUE(contains(message_with("latents", -6), {"config.json", "latents -6"}));
  EXPECT_TRUE(contains(message_with("architecture", "magic"), {"config.json", "magic"}));
  EXPECT_TRUE(contains(message_with("architecture", 3), {"config.json", "architecture"}));
  write_file(folder_ / "config.json", "{\"architecture\": \"topk\"}");
  EXPECT_TRUE(contains(message(), {"config.json", "latents"}));
  write_file(folder_ / "config.json", "[]");
  EXPECT_TRUE(contains(message(), {"config.json", "architecture"}));
  write_file(folder_ / "config.json", "{");
  EXPECT_TRUE(contains(message(), {"config.json"}));
}

TEST_F(TopKFolder, AMissingConfigNamesTheFolder) {
  std::filesystem::remove(folder_ / "config.json");
  EXPECT_TRUE(contains(message(), {folder_.filename().string(), "config.json"}));
}

TEST_F(TopKFolder, WeightsThatCannotBeAreNamed) {
  EXPECT_TRUE(contains(message_with_tensor("decoder", {}), {"dictionary.safetensors", "decoder"}));
  EXPECT_TRUE(contains(message_with_tensor("encoder", torch::zeros({4, 6})), {"dictionary.safetensors", "encoder", "[4, 6]", "[6, 4]"}));
  EXPECT_TRUE(contains(message_with_tensor("decoder_bias", torch::zeros({1})), {"dictionary.safetensors", "decoder_bias"}));
  EXPECT_TRUE(contains(message_with_tensor("encoder_bias", torch::full({6}, std::nanf(""))), {"dictionary.safetensors", "encoder_bias"}));
  std::filesystem::resize_file(folder_ / "dictionary.safetensors", 60);
  EXPECT_TRUE(contains(message(), {"dictionary.safetensors"}));
  std::filesystem::remove(folder_ / "dictionary.safetensors");
  EXPECT_TRUE(contains(message(), {"dictionary.safetensors"}));
}

TEST_F(TopKFolder, HalfPrecisionWeightsLoad) {
  EXPECT_EQ(message_with_tensor("encoder", dictionary_->weights().encoder.to(torch::kHalf)), "no error");
}

}  // namespace
}  // namespace sememe
