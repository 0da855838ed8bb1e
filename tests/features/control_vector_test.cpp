#include "sememe/features/control_vector.h"

#include <gtest/gtest.h>

#include <limits>

#include "sememe/base/error.h"
#include "sememe/features/top_k.h"
#include "sememe/formats/gguf.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"
#include "tests/formats/error_text.h"
#include "tests/formats/gguf_bytes.h"
#include "tests/formats/scratch_path.h"

namespace sememe {
namespace {

TEST(ControlVector, ComesBackAsItWasSaved) {
  const ScratchPath scratch("vector.gguf");
  const ControlVector vector{"llama", {{1, torch::randn({5})}, {12, torch::randn({5})}}};
  vector.save(scratch.path());
  const ControlVector found = ControlVector::load(scratch.path());
  EXPECT_EQ(found.model_hint, "llama");
  ASSERT_EQ(found.directions.size(), 2u);
  EXPECT_TRUE(found.directions.at(1).equal(vector.directions.at(1)));
  EXPECT_TRUE(found.directions.at(12).equal(vector.directions.at(12)));
  EXPECT_EQ(GgufFile(scratch.path()).integer("controlvector.layer_count"), 2);
}

std::string error_of_file(const std::vector<GgufTensor>& tensors, const std::string& kind = "controlvector") {
  const ScratchPath scratch("bad.gguf");
  put_file(scratch.path(), gguf_bytes(3, {{"general.architecture", kind}}, tensors));
  return error_from([&] { ControlVector::load(scratch.path()); });
}

TEST(ControlVector, AFileThatIsNoneIsRefusedByNameOfTheTensor) {
  const std::vector<float> ones(4, 1.0f), bad = {1.0f, std::numeric_limits<float>::quiet_NaN(), 1.0f, 1.0f};
  const auto tensor = [](const char* name, const std::vector<float>& values, std::vector<int64_t> shape) {
    return GgufTensor{name, GgmlType::kF32, std::move(shape), std::as_bytes(std::span(values))};
  };
  EXPECT_EQ(error_of_file({tensor("direction.1", ones, {4})}), "no error");
  EXPECT_TRUE(contains(error_of_file({tensor("direction.1", ones, {4})}, "llama"), {"bad.gguf", "\"llama\""}));
  EXPECT_TRUE(contains(error_of_file({}), {"no direction"}));
  for (const char* name : {"direction.0", "direction.", "direction.x", "direction.1x", "direction.-1", "other", "direction.99999999999999999999"})
    EXPECT_TRUE(contains(error_of_file({tensor(name, ones, {4})}), {"is no direction of a layer", name})) << name;
  EXPECT_TRUE(contains(error_of_file({tensor("direction.1", ones, {2, 2})}), {"no row of float32"}));
  EXPECT_TRUE(contains(error_of_file({tensor("direction.1", bad, {4})}), {"NaN"}));
  EXPECT_TRUE(contains(error_of_file({tensor("direction.1", ones, {4}), tensor("direction.2", std::vector<float>(3, 1.0f), {3})}),
                       {"direction.2", "width of 3", "4"}));
}

TEST(ControlVector, NothingAndBlockZeroCannotBeSaved) {
  const ScratchPath scratch("vector.gguf");
  EXPECT_TRUE(contains(error_from([&] { ControlVector{}.save(scratch.path()); }), {"no direction"}));
  EXPECT_TRUE(contains(error_from([&] { ControlVector{"", {{0, torch::ones(3)}}}.save(scratch.path()); }), {"block 0"}));
}

TEST(ControlVector, ActsOnEveryRowBehindItsBlockByItsScale) {
  torch::NoGradGuard no_grad;
  const LanguageModel model = small_language_model();
  const int64_t width = model.network->config().width;
  const ScratchPath scratch("vector.gguf");
  const ControlVector vector{"", {{1, torch::randn({width})}}};
  vector.save(scratch.path());
  struct Recorder : SiteVisitor {
    torch::Tensor seen;
    torch::Tensor visit(const Site& site, torch::Tensor value) override {
      if (site.name == "blocks.1.output") seen = value;
      return value;
    }
  } plain, changed;
  const Batch batch{torch::tensor({{1, 5, 9, 3}}, torch::kInt64), {}};
  model.network->forward(batch, plain);
  const std::filesystem::path files[] = {scratch.path().string() + ":-0.5"};
  const auto acting = std::make_shared<Interventions>(files, "", *model.network, Passes::kWholeContexts);
  EXPECT_FALSE(acting->empty());
  EXPECT_EQ(acting->to_json()[0].at("scale").get<double>(), -0.5);
  model.network->add_visitor(acting);
  model.network->forward(batch, changed);
  EXPECT_TRUE(changed.seen.allclose(plain.seen - 0.5 * vector.directions.at(1), 1e-5, 1e-6));
}

TEST(ControlVector, IsWhatAnInterventionAdds) {
  const TopKDictionary dictionary(perfect_weights(4), 2, Json::object());
  Intervention intervention("blocks.3.output", "runs/x", dictionary);
  intervention.edits = {Edit::add(1, 2.0, 3.0), Edit::add(5, 1.0, 0.5), Edit::add(2, -1.0)};  // 5 is the opposite of 1
  const ControlVector vector = control_vector_of(intervention, dictionary);
  ASSERT_EQ(vector.directions.size(), 1u);
  EXPECT_TRUE(vector.directions.at(3).allclose(torch::tensor({0.0f, 5.5f, -1.0f, 0.0f})));
  intervention.edits.push_back(Edit::ablate(0));
  EXPECT_TRUE(contains(error_from([&] { control_vector_of(intervention, dictionary); }), {"can only add", "ablate 0"}));
  for (const char* site : {"blocks.0.output", "blocks.1.mlp", "embedding", "blocks.x.output"}) {
    Intervention elsewhere(site, "runs/x", dictionary);
    elsewhere.edits = {Edit::add(1, 2.0)};
    EXPECT_TRUE(contains(error_from([&] { control_vector_of(elsewhere, dictionary); }), {site, "behind blocks 1"}));
  }
}

TEST(ControlVector, OneThatDoesNotFitTheModelIsAnErrorThatSaysWhy) {
  const LanguageModel model = small_language_model();
  const int64_t width = model.network->config().width;
  const auto error_of = [&](const ControlVector& vector, const std::string& scale) {
    const ScratchPath scratch("vector.gguf");
    vector.save(scratch.path());
    const std::filesystem::path files[] = {scratch.path().string() + scale};
    return error_from([&] { Interventions(files, "", *model.network, Passes::kOneContext); });
  };
  EXPECT_TRUE(contains(error_of({"", {{99, torch::ones(width)}}}, ""), {"block 99"}));
  EXPECT_TRUE(contains(error_of({"", {{1, torch::ones(width + 1)}}}, ""), {"made for this model"}));
  for (const char* scale : {":", ":x", ":1x", "0.5", ":nan", ":inf"})
    EXPECT_TRUE(contains(error_of({"", {{1, torch::ones(width)}}}, scale), {"FILE.gguf:SCALE"})) << scale;
}

}  // namespace
}  // namespace sememe
