#include "sememe/features/intervention.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "sememe/data/byte_stream.h"
#include "sememe/features/dose_response.h"
#include "sememe/features/injection.h"
#include "sememe/features/logit_lens.h"
#include "sememe/language/evaluation.h"
#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"

namespace sememe {
namespace {

const char* const kSite = "blocks.0.output";
const Site kHere{kSite, 16};
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// 24 random atoms in 16 numbers, of which 4 describe a row: it reconstructs nothing exactly.
TopKDictionary lossy_dictionary() {
  torch::manual_seed(7);
  AutoencoderWeights weights = AutoencoderWeights::zeros(24, 16);
  weights.decoder.copy_(torch::nn::functional::normalize(torch::randn({24, 16})));
  weights.encoder.copy_(weights.decoder);
  return {weights, 4, Json::object()};
}

/// The activation of a latent in each row.
torch::Tensor activations_of(const SparseCodes& codes, int64_t latent) {
  torch::Tensor dense = torch::zeros({codes.rows()});
  for (int64_t row = 0; row < codes.rows(); ++row)
    for (int64_t entry = codes.offsets[row].item<int64_t>(); entry < codes.offsets[row + 1].item<int64_t>(); ++entry)
      if (codes.atoms[entry].item<int64_t>() == latent) dense[row] = codes.values[entry];
  return dense;
}

bool same(const SparseCodes& a, const SparseCodes& b) {
  return torch::equal(a.offsets, b.offsets) && torch::equal(a.atoms, b.atoms) && torch::equal(a.values, b.values);
}

class InterventionTest : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    torch::manual_seed(3);
    x_ = torch::randn({1, 6, 16});
    codes_ = dictionary_.encode(rows());
    // The strongest latents of the second and the third row.
    first_ = codes_.atoms[codes_.offsets[1].item<int64_t>()].item<int64_t>();
    second_ = codes_.atoms[codes_.offsets[3].item<int64_t>() - 1].item<int64_t>();
    ASSERT_NE(first_, second_);
  }
  torch::Tensor rows() const { return x_[0]; }
  Intervention intervention(std::vector<Edit> edits) const {
    Intervention made(kSite, "somewhere/topk", dictionary_);
    made.edits = std::move(edits);
    return made;
  }
  /// What passes on of x_, all six rows of which are edited.
  torch::Tensor edited(std::vector<Edit> edits) const {
    const Site pixels{kSite, 16, "pixel"};
    return InterveneSite(intervention(std::move(edits)), dictionary_).visit(pixels, x_)[0];
  }
  std::string refused(const Edit& edit) const {
    try {
      InterveneSite(intervention({edit}), dictionary_);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "no error";
  }
  std::string message_of(const Json& json) const {
    return error_from([&] { Intervention::from_json(json, "edits.json"); });
  }

  TopKDictionary dictionary_ = lossy_dictionary();
  torch::Tensor x_;
  SparseCodes codes_;
  int64_t first_ = 0, second_ = 0;
};

RC_GTEST_PROP(InterveneSiteLaw, EditsEachTokenButTheFirstOnceHoweverTheyCome, ()) {
  const Site here{kSite, 2};
  InterveneSite add(kSite, torch::tensor({1.0f, -2.0f}));
  const auto passes = *rc::gen::container<std::vector<int64_t>>(rc::gen::inRange<int64_t>(1, 5));
  std::vector<torch::Tensor> seen;
  for (const int64_t rows : passes) seen.push_back(add.visit(here, torch::zeros({1, rows, 2}))[0]);
  if (seen.empty()) return;
  const torch::Tensor all = torch::cat(seen);
  RC_ASSERT(all[0].abs().sum().item<float>() == 0.0f);
  const torch::Tensor rest = all.narrow(0, 1, all.size(0) - 1);
  RC_ASSERT(torch::equal(rest, torch::tensor({1.0f, -2.0f}).expand_as(rest)));
  RC_ASSERT(add.edited() == rest.size(0));
}

TEST_F(InterventionTest, EachPassOfWholeContextsKeepsItsOwnEndOfText) {
  InterveneSite clamp(intervention({Edit::clamp(5, 2.0)}), dictionary_, Passes::kWholeContexts);
  for (int pass = 0; pass < 2; ++pass) {
    const torch::Tensor value = torch::randn({3, 4, 16}), changed = clamp.visit(kHere, value);
    EXPECT_TRUE(torch::equal(changed.select(1, 0), value.select(1, 0)));
    for (int64_t row = 0; row < 3; ++row)
      for (int64_t i = 1; i < 4; ++i) EXPECT_FALSE(torch::equal(changed[row][i], value[row][i])) << pass << row << i;
  }
  EXPECT_EQ(clamp.edited(), 2 * 3 * 3);
}

TEST_F(InterventionTest, LeavesOtherSitesAndItsInputAsTheyAre) {
  InterveneSite clamp(intervention({Edit::clamp(5, 2.0)}), dictionary_);
  const torch::Tensor before = x_.clone();
  EXPECT_TRUE(torch::equal(clamp.visit({"norm", 16}, x_), before));
  EXPECT_EQ(clamp.edited(), 0);
  EXPECT_FALSE(torch::equal(clamp.visit(kHere, x_), before));
  EXPECT_TRUE(torch::equal(x_, before));
}

TEST_F(InterventionTest, ReachesPromptAndGeneratedTokensOnce) {
  const LanguageModel model = small_language_model();
  for (torch::Tensor& parameter : model.network->parameters()) parameter.data().mul_(3.0);
  InterveneSite visitor(intervention({Edit::add(3, 9.0), Edit::clamp(5, 20.0), Edit::ablate(1)}), dictionary_);
  std::string continued;
  int64_t generated = 0;
  generate(model, "the cat", {.tokens = 8, .temperature = 0.0}, visitor, [&](std::string_view piece) {
    continued += piece;
    ++generated;
  });
  ASSERT_GT(generated, 2);
  const auto prompt = static_cast<int64_t>(model.tokenizer.encode("the cat").size());
  EXPECT_EQ(visitor.edited(), prompt + generated - 1);
  // The same text comes out of passes over the whole text so far.
  const torch::NoGradGuard no_autograd;
  std::vector<int64_t> ids{model.tokenizer.end_of_text()};
  for (const int32_t id : model.tokenizer.encode("the cat")) ids.push_back(id);
  std::string wanted;
  for (int64_t i = 0; i < generated; ++i) {
    InterveneSite whole(intervention({Edit::add(3, 9.0), Edit::clamp(5, 20.0), Edit::ablate(1)}), dictionary_, Passes::kWholeContexts);
    const torch::Tensor logits = model.network->forward({torch::tensor(ids).unsqueeze(0), {}}, whole)[0][-1];
    ids.push_back(logits.narrow(0, 0, model.tokenizer.size()).argmax().item<int64_t>());
    wanted += model.tokenizer.token(static_cast<int32_t>(ids.back()));
  }
  EXPECT_EQ(continued, wanted);
}

TEST_F(InterventionTest, ActsOnAnyNetwork) {
  struct Doubler : Network {
    const std::vector<Site>& sites() const override { return all; }
    torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override { return visitor.visit(all[0], batch.inputs) * 2; }
    torch::Tensor loss(const torch::Tensor& output, const Batch&) const override { return output.sum(); }
    std::vector<Site> all{{"hidden", 16, "row"}};
  } network;
  Intervention add("hidden", "", dictionary_);
  add.edits = {Edit::add(2, 3.0)};
  InterveneSite visitor(add, dictionary_);
  const torch::Tensor out = network.forward({rows(), {}}, visitor);
  EXPECT_TRUE(torch::allclose(out, 2 * (rows() + 3.0 * dictionary_.atoms()[2])));
  EXPECT_EQ(visitor.edited(), 6);
}

TEST_F(InterventionTest, AddIsTheUnitDirectionTimesStrengthBitForBit) {
  AutoencoderWeights weights = dictionary_.weights();
  weights.decoder = weights.decoder * 5.0;
  const TopKDictionary longer(weights, 4, Json::object());
  const torch::Tensor atom = longer.atoms()[3];
  const torch::Tensor direction = torch::nn::functional::normalize(atom, torch::nn::functional::NormalizeFuncOptions().dim(0));
  InterveneSite visitor(intervention({Edit::add(3, -1.7, 2.3)}), longer);
  torch::Tensor wanted = x_.clone();
  wanted.narrow(1, 1, 5).add_(direction * (-1.7 * 2.3));
  EXPECT_TRUE(torch::equal(visitor.visit(kHere, x_), wanted));
  // Later passes have no end-of-text.
  EXPECT_TRUE(torch::equal(visitor.visit(kHere, x_), x_ + direction * (-1.7 * 2.3)));
}

TEST_F(InterventionTest, ClampSetsTheActivationAndKeepsTheReconstructionError) {
  const torch::Tensor changed = edited({Edit::clamp(first_, 3.5)});
  const torch::Tensor was = activations_of(codes_, first_).unsqueeze(1);
  EXPECT_GT((rows() - dictionary_.decode(codes_)).norm().item<double>(), 0.1);  // there is an error to keep
  EXPECT_TRUE(torch::allclose(changed, rows() + (3.5 - was) * dictionary_.atoms()[first_], 1e-5, 1e-5));
}

TEST_F(InterventionTest, AblateEqualsClampTo0) {
  const torch::Tensor ablated = edited({Edit::ablate(first_)});
  EXPECT_TRUE(torch::equal(ablated, edited({Edit::clamp(first_, 0.0)})));
  EXPECT_TRUE(torch::equal(ablated, edited({Edit::scale(first_, 0.0)})));
  const torch::Tensor was = activations_of(codes_, first_);
  EXPECT_GT(was.sum().item<double>(), 0.1);
  EXPECT_TRUE(torch::allclose(ablated, rows() - was.unsqueeze(1) * dictionary_.atoms()[first_], 1e-5, 1e-5));
  for (int64_t row = 0; row < 6; ++row) EXPECT_EQ(torch::equal(ablated[row], rows()[row]), was[row].item<float>() == 0.0f);
}

TEST_F(InterventionTest, ClampToItsOwnValueChangesNothing) {
  const SparseCodes row{torch::tensor({int64_t{0}, int64_t{4}}), codes_.atoms.narrow(0, 4, 4), codes_.values.narrow(0, 4, 4)};
  const double own = activations_of(codes_, first_)[1].item<float>();
  ASSERT_GT(own, 0.0);
  EXPECT_TRUE(same(edit_codes(row, std::vector{Edit::clamp(first_, own)}), row));
  EXPECT_TRUE(torch::equal(edited({Edit::clamp(first_, own)})[1], rows()[1]));
}

TEST_F(InterventionTest, SwapExchangesActivationsAndTwiceIsTheIdentity) {
  const std::vector<Edit> once{Edit::swap(first_, second_)}, twice{Edit::swap(first_, second_), Edit::swap(second_, first_)};
  const SparseCodes swapped = edit_codes(codes_, once);
  EXPECT_TRUE(torch::equal(activations_of(swapped, first_), activations_of(codes_, second_)));
  EXPECT_TRUE(torch::equal(activations_of(swapped, second_), activations_of(codes_, first_)));
  EXPECT_FALSE(same(swapped, codes_));
  EXPECT_TRUE(same(edit_codes(codes_, twice), codes_));
  EXPECT_TRUE(torch::equal(edited(twice), rows()));
  const torch::Tensor difference = (activations_of(codes_, second_) - activations_of(codes_, first_)).unsqueeze(1);
  EXPECT_TRUE(torch::allclose(edited(once), rows() + difference * (dictionary_.atoms()[first_] - dictionary_.atoms()[second_]), 1e-5, 1e-5));
}

TEST_F(InterventionTest, ScaleMultipliesWhereTheLatentFires) {
  const torch::Tensor was = activations_of(codes_, first_).unsqueeze(1);
  EXPECT_TRUE(torch::allclose(edited({Edit::scale(first_, 2.5)}), rows() + 1.5 * was * dictionary_.atoms()[first_], 1e-5, 1e-5));
}

TEST_F(InterventionTest, EditsActInTheOrderGiven) {
  const std::vector<Edit> clamp_first{Edit::clamp(first_, 2.0), Edit::scale(first_, 3.0)};
  const std::vector<Edit> clamp_last{Edit::scale(first_, 3.0), Edit::clamp(first_, 2.0)};
  EXPECT_TRUE(torch::equal(activations_of(edit_codes(codes_, clamp_first), first_), torch::full({6}, 6.0f)));
  EXPECT_TRUE(torch::equal(activations_of(edit_codes(codes_, clamp_last), first_), torch::full({6}, 2.0f)));
}

TEST_F(InterventionTest, EditedCodesStaySortedWithoutZeros) {
  const std::vector<Edit> edits{Edit::clamp(0, 1.0), Edit::clamp(23, 1.0), Edit::ablate(first_), Edit::clamp(12, -1.0)};
  const SparseCodes changed = edit_codes(codes_, edits);
  EXPECT_EQ(changed.rows(), 6);
  EXPECT_EQ((changed.values == 0).sum().item<int64_t>(), 0);
  for (int64_t row = 0; row < 6; ++row)
    for (int64_t entry = changed.offsets[row].item<int64_t>() + 1; entry < changed.offsets[row + 1].item<int64_t>(); ++entry)
      EXPECT_LT(changed.atoms[entry - 1].item<int32_t>(), changed.atoms[entry].item<int32_t>());
}

TEST_F(InterventionTest, TheSumOfInterventionsDoesBoth) {
  const Intervention add = intervention({Edit::add(2, 1.5)}), clamp = intervention({Edit::clamp(5, 2.0)});
  const Intervention both = add + clamp;
  EXPECT_EQ(both.edits, (std::vector{Edit::add(2, 1.5), Edit::clamp(5, 2.0)}));
  const torch::Tensor changes = (edited(add.edits) - rows()) + (edited(clamp.edits) - rows());
  EXPECT_TRUE(torch::allclose(edited(both.edits) - rows(), changes, 1e-5, 1e-5));
  EXPECT_TRUE(torch::allclose(edited({Edit::add(2, 1.5), Edit::add(2, 0.5)}), edited({Edit::add(2, 2.0)}), 1e-6, 1e-6));
  EXPECT_TRUE(torch::equal(edited((clamp + add).edits), edited(both.edits)));
  Intervention elsewhere = clamp, other = clamp;
  elsewhere.site = "norm";
  other.latents = 25;
  EXPECT_TRUE(contains(error_from([&] { add + elsewhere; }), {kSite, "norm", "sites differ"}));
  EXPECT_TRUE(contains(error_from([&] { add + other; }), {"24 latents", "25 latents", "dictionaries differ"}));
}

TEST_F(InterventionTest, WhatCannotBeAppliedIsRefusedByName) {
  EXPECT_EQ(refused(Edit::clamp(23, 1.0)), "no error");
  EXPECT_TRUE(contains(refused(Edit::ablate(24)), {"latent 24", "0 to 23"}));
  EXPECT_TRUE(contains(refused(Edit::add(-1, 1.0)), {"latent -1", "0 to 23"}));
  EXPECT_TRUE(contains(refused(Edit::swap(3, 99)), {"latent 99", "0 to 23"}));
  EXPECT_TRUE(contains(refused(Edit::swap(3, 3)), {"swap latent 3", "itself"}));
  EXPECT_TRUE(contains(refused(Edit::clamp(7, std::nan(""))), {"clamp latent 7", "nan"}));
  EXPECT_TRUE(contains(refused(Edit::scale(7, 1e39)), {"scale latent 7", "finite"}));
  EXPECT_TRUE(contains(refused(Edit::add(7, kInfinity)), {"add latent 7", "inf"}));
  EXPECT_TRUE(contains(refused(Edit::add(7, 1.0, std::nan(""))), {"add latent 7", "nan"}));
  dictionary_ = TopKDictionary(silent_weights(16), 2, Json::object());
  EXPECT_TRUE(contains(refused(Edit::add(1, 1.0)), {"add latent 1", "atom is zero"}));
  dictionary_ = lossy_dictionary();
  x_[0][2][4] = std::nan("");
  EXPECT_TRUE(contains(error_from([&] { edited({Edit::ablate(1)}); }), {"row 2"}));
}

TEST_F(InterventionTest, AFileBringsBackWhatWasSaved) {
  const Intervention saved =
      intervention({Edit::add(17, -0.1, 3.3), Edit::clamp(4, 1.0 / 3.0), Edit::ablate(9), Edit::swap(3, 8), Edit::scale(5, 0.5)});
  saved.save(folder_ / "edits.json");
  const Intervention loaded = Intervention::load(folder_ / "edits.json");
  EXPECT_EQ(loaded, saved);
  EXPECT_EQ(loaded.folder, "somewhere/topk");
  EXPECT_EQ(loaded.architecture, "topk");
  loaded.check(dictionary_, "edits.json");
}

TEST_F(InterventionTest, AnotherDictionaryIsRefusedByName) {
  const Intervention made = intervention({Edit::ablate(20)});
  EXPECT_TRUE(contains(error_from([&] { made.check(TopKDictionary(perfect_weights(16), 4, Json::object()), "edits.json"); }),
                       {"edits.json", "topk with 24 latents of width 16", "topk with 32 latents of width 16", "--dictionary"}));
  Intervention wrong = intervention({Edit::ablate(1), Edit::clamp(24, 1.0)});
  EXPECT_TRUE(contains(error_from([&] { wrong.check(dictionary_, "edits.json"); }), {"edits.json: edits[1]: latent 24", "0 to 23"}));
}

TEST_F(InterventionTest, BadFilesAreRefusedWithFileAndKey) {
  const Json good = intervention({Edit::add(1, 2.0), Edit::clamp(2, 3.0), Edit::swap(3, 4)}).to_json();
  EXPECT_EQ(message_of(good), "no error");
  const auto message_with = [&](auto change) {
    Json bad = good;
    change(bad);
    return message_of(bad);
  };
  EXPECT_TRUE(contains(message_of(Json::array()), {"edits.json", "\"format\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["format"] = "other"; }), {"edits.json", "no intervention"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["version"] = 2; }), {"edits.json", "version", "2"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["sites"] = ""; }), {"edits.json", "\"sites\" is unknown"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad.erase("dictionary"); }), {"edits.json", "\"dictionary\" is missing"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["dictionary"] = 3; }), {"edits.json: dictionary", "no JSON object"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["dictionary"]["latents"] = -1.5; }), {"edits.json: dictionary", "\"latents\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"] = Json::object(); }), {"edits.json", "\"edits\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"] = Json::array(); }), {"edits.json", "\"edits\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][1] = 7; }), {"edits.json: edits[1]", "\"kind\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][1]["kind"] = "pinch"; }), {"edits.json: edits[1]", "pinch", "clamp"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][0]["latent"] = 1.5; }), {"edits.json: edits[0]", "\"latent\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][0].erase("strength"); }), {"edits.json: edits[0]", "\"strength\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][0]["units"] = 2; }), {"edits.json: edits[0]", "\"units\" is unknown"}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][1]["activation"] = "3"; }), {"edits.json: edits[1]", "\"activation\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][1]["activation"] = true; }), {"edits.json: edits[1]", "\"activation\""}));
  EXPECT_TRUE(contains(message_with([](Json& bad) { bad["edits"][2].erase("with"); }), {"edits.json: edits[2]", "\"with\""}));
}

TEST_F(InterventionTest, HostileTextIsRefusedWithTheFile) {
  const std::filesystem::path file = folder_ / "edits.json";
  const std::string good = intervention({Edit::clamp(2, 3.0)}).to_json().dump();
  for (size_t length = 0; length < good.size(); ++length) {
    write_file(file, good.substr(0, length));
    EXPECT_TRUE(contains(error_from([&] { Intervention::load(file); }), {file.string()})) << length;
  }
  std::string huge = good;
  huge.replace(huge.find("3.0"), 3, "1e999");
  for (const std::string& text : {std::string(100000, '['), std::string("null"), huge, good + "x"}) {
    write_file(file, text);
    EXPECT_TRUE(contains(error_from([&] { Intervention::load(file); }), {file.string()}));
  }
  EXPECT_TRUE(contains(error_from([&] { Intervention::load(folder_ / "none.json"); }), {"none.json"}));
}

class InterventionFiles : public InterventionTest {
 protected:
  void SetUp() override {
    InterventionTest::SetUp();
    std::filesystem::create_directories(folder_ / "topk");
    dictionary_.save(folder_ / "topk");
  }
  std::filesystem::path write(const std::string& name, std::vector<Edit> edits, const std::string& site = kSite) {
    Intervention made(site, folder_ / "topk", dictionary_);
    made.edits = std::move(edits);
    made.save(folder_ / name);
    return folder_ / name;
  }
  torch::Tensor visited(const std::vector<std::filesystem::path>& files) {
    Interventions all(files, "", *model_.network, Passes::kOneContext);
    return all.visit(kHere, x_);
  }
  std::string message(const std::filesystem::path& file, const std::filesystem::path& dictionary = "") {
    return error_from([&] { Interventions(std::vector{file}, dictionary, *model_.network, Passes::kOneContext); });
  }
  LanguageModel model_ = small_language_model();
};

TEST_F(InterventionFiles, ItDoesNotMatterHowEditsAreSpreadOverFiles) {
  const std::filesystem::path both = write("both.json", {Edit::swap(first_, second_), Edit::clamp(first_, 2.0)});
  const std::filesystem::path one = write("one.json", {Edit::swap(first_, second_)}), two = write("two.json", {Edit::clamp(first_, 2.0)});
  EXPECT_TRUE(torch::equal(visited({one, two}), visited({both})));
  EXPECT_FALSE(torch::equal(visited({one}), visited({both})));
  EXPECT_TRUE(torch::equal(visited({}), x_));
}

TEST_F(InterventionFiles, SitesAreEditedEachByItsOwn) {
  const std::filesystem::path here = write("here.json", {Edit::add(1, 1.0)}), later = write("later.json", {Edit::add(2, 3.0)}, "norm");
  const std::vector files{here, later};
  Interventions all(files, "", *model_.network, Passes::kOneContext);
  EXPECT_EQ(all.list().size(), 2u);
  const torch::Tensor value = torch::zeros({1, 2, 16});
  EXPECT_TRUE(torch::allclose(all.visit(kHere, value)[0][1], dictionary_.atoms()[1]));
  EXPECT_TRUE(torch::allclose(all.visit({"norm", 16}, value)[0][1], 3.0 * dictionary_.atoms()[2]));
}

TEST_F(InterventionFiles, WhatDoesNotFitIsRefusedWithTheFile) {
  const std::filesystem::path good = write("good.json", {Edit::ablate(1)});
  EXPECT_EQ(message(good), "no error");
  EXPECT_TRUE(contains(message(write("site.json", {Edit::ablate(1)}, "nowhere")), {"site.json", "nowhere"}));
  EXPECT_TRUE(contains(message(write("width.json", {Edit::ablate(1)}, "blocks.0.mlp.act")), {"width.json", "width is 16", "20"}));
  EXPECT_TRUE(contains(message(write("latent.json", {Edit::ablate(24)})), {"latent.json: edits[0]: latent 24"}));
  std::filesystem::create_directories(folder_ / "other");
  TopKDictionary(perfect_weights(16), 4, Json::object()).save(folder_ / "other");
  EXPECT_TRUE(contains(message(good, folder_ / "other"), {"good.json", "24 latents", "32 latents"}));
  std::filesystem::rename(folder_ / "topk", folder_ / "moved");
  EXPECT_TRUE(contains(message(good), {"good.json", "topk is not there", "--dictionary"}));
  EXPECT_EQ(message(good, folder_ / "moved"), "no error");
}

TEST_F(InterventionFiles, EvaluationSeesTheEditsOfEachContext) {
  const std::filesystem::path text = write_text(folder_ / "text.txt");
  const auto loss = [&](std::vector<Edit> edits, const std::string& name) {
    const std::vector files{write(name, std::move(edits))};
    Interventions all(files, "", *model_.network, Passes::kWholeContexts);
    return evaluate(model_, open_corpus(text), 48, 0, &all).nats;
  };
  const double clean = evaluate(model_, open_corpus(text), 48).nats;
  EXPECT_EQ(loss({Edit::add(3, 0.0)}, "none.json"), clean);
  const double moved = loss({Edit::add(3, 6.0)}, "add.json");
  EXPECT_GT(std::abs(moved - clean), 1e-3);
  // Contexts are edited alike whichever batch they come in.
  const std::vector files{folder_ / "add.json"};
  Interventions all(files, "", *model_.network, Passes::kWholeContexts);
  EXPECT_NEAR(evaluate(model_, open_corpus(text), 480, 0, &all).nats, moved, 1e-3);
}

class Doses : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    for (torch::Tensor& parameter : model_.network->parameters()) parameter.data().mul_(3.0);
    text_ = write_text(folder_ / "text.txt");
  }
  DoseOptions options() const {
    DoseOptions wanted;
    wanted.site = kSite;
    wanted.latents = {DosedLatent{3, {}, {"cat"}}, DosedLatent{7, SteeringUnit{2.0, "two"}, {}}};
    wanted.strengths = {-1, 0, 2};
    wanted.text = text_;
    wanted.tokens = 60;
    wanted.generate.tokens = 6;
    return wanted;
  }
  LanguageModel model_ = small_language_model();
  TopKDictionary dictionary_{perfect_weights(16), 32, Json::object()};
  std::filesystem::path text_;
};

TEST_F(Doses, MeasureWhatIsInjected) {
  const Json result = dose_response(dictionary_, model_, options());
  const InjectionEffect effect = injection_effect(dictionary_, model_, text_, {7}, {.site = kSite, .norm = 4.0, .tokens = 60});
  const Json& latent = result["latents"][1];
  EXPECT_EQ(latent["unit"].get<double>(), 2.0);
  EXPECT_EQ(latent["doses"][2]["norm"].get<double>(), 4.0);
  EXPECT_NEAR(latent["doses"][2]["kl"].get<double>(), effect.kl[0], 1e-6);
  const Json& none = latent["doses"][1];
  EXPECT_EQ(none["kl"].get<double>(), 0.0);
  EXPECT_EQ(none["ce_change"].get<double>(), 0.0);
  EXPECT_EQ(none["promoted_mass_change"].get<double>(), 0.0);
  EXPECT_TRUE(none["key_word_share"].is_null());
  EXPECT_GE(result["latents"][0]["doses"][0]["key_word_share"].get<double>(), 0.0);
  EXPECT_EQ(result, dose_response(dictionary_, model_, options()));
}

TEST_F(Doses, PromotedTokensAreThoseOfTheLogitLens) {
  const Json result = dose_response(dictionary_, model_, options());
  const torch::Tensor logits = logit_lens(model_, find_site(*model_.network, kSite), dictionary_.atoms().narrow(0, 3, 1))[0];
  std::string best(model_.tokenizer.token(static_cast<int32_t>(logits.argmax().item<int64_t>())));
  repair_utf8(best);
  EXPECT_EQ(result["latents"][0]["promoted"].size(), 8u);
  EXPECT_EQ(result["latents"][0]["promoted"][0].get<std::string>(), best);
  const Json strong = dose_response(dictionary_, model_, [&] {
    DoseOptions more = options();
    more.strengths = {20};
    return more;
  }());
  EXPECT_GT(strong["latents"][0]["doses"][0]["promoted_mass_change"].get<double>(), 0.0);
}

TEST_F(Doses, LatentsAreComparedAtTheSameNormAndAtTheSameKl) {
  DoseOptions wanted = options();
  wanted.norm = 1.5;
  wanted.kl = 0.02;
  const Json result = dose_response(dictionary_, model_, wanted);
  std::vector<std::string> names;
  for (const Json& row : result["equal_norm"]["rows"]) {
    names.push_back(row["name"]);
    EXPECT_NEAR(row["norm"].get<double>(), 1.5, 1e-12);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"latent 3", "latent 7", "together", "random"}));
  const InjectionEffect effect = injection_effect(dictionary_, model_, text_, {3, 7}, {.site = kSite, .norm = 1.5, .tokens = 60});
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(result["equal_norm"]["rows"][i]["kl"].get<double>(), effect.kl[i], 1e-6);
  for (size_t i = 0; i < 3; ++i) {
    const Json& row = result["equal_kl"]["rows"][i];
    EXPECT_NEAR(row["kl"].get<double>(), 0.02, 0.02 * 1.1e-3) << row.dump();
    EXPECT_GT(row["norm"].get<double>(), 0.0);
  }
}

TEST_F(Doses, AShiftThatNoNormReachesIsNull) {
  DoseOptions wanted = options();
  wanted.kl = 1e6;
  const Json result = dose_response(dictionary_, model_, wanted);
  ASSERT_EQ(result["equal_kl"]["rows"].size(), 4u);
  for (const Json& row : result["equal_kl"]["rows"]) EXPECT_TRUE(row["norm"].is_null()) << row.dump();
}

TEST_F(Doses, ThePromptAloneWillDo) {
  DoseOptions wanted = options();
  wanted.text.clear();
  wanted.prompt = "the cat sat";
  const Json result = dose_response(dictionary_, model_, wanted);
  EXPECT_EQ(result["tokens"].get<size_t>(), model_.tokenizer.encode("the cat sat").size());
  EXPECT_NEAR(result["latents"][0]["unit"].get<double>(), unit_of_prompt(model_, kSite, "the cat sat").norm, 1e-5);
  SteeringOptions same{.site = kSite, .prompt = "the cat sat", .latent = 7, .strengths = {2}, .unit = {2.0, "two"}, .generate = {.tokens = 6}};
  const Json steered = steer(dictionary_, model_, same)["steered"][0];
  EXPECT_EQ(result["latents"][1]["doses"][2]["text"], steered["after"]);
  EXPECT_NEAR(result["latents"][1]["doses"][2]["kl"].get<double>(), steered["kl_prompt"].get<double>(), 1e-5);
}

TEST_F(Doses, WrongRequestsAreRefused) {
  const auto message_with = [&](auto change) {
    DoseOptions changed = options();
    change(changed);
    return error_from([&] { dose_response(dictionary_, model_, changed); });
  };
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.latents = {DosedLatent{32, {}, {}}}; }), {"latent 32", "0 to 31"}));
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.text.clear(); }), {"--text", "--prompt"}));
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.strengths = {kInfinity}; }), {"--strength inf"}));
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.kl = 0.0; }), {"--kl 0"}));
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.site = "nowhere"; }), {"nowhere"}));
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.site = "blocks.0.mlp.act"; }), {"width is 16", "20"}));
  EXPECT_TRUE(contains(message_with([](DoseOptions& wrong) { wrong.strengths = {1e39}; }), {"finite", "smaller strengths"}));
}

}  // namespace
}  // namespace sememe
