#include "sememe/features/capture.h"

#include <gtest/gtest.h>

#include <exception>
#include <vector>

#include "tests/features/scratch_folder.h"
#include "tests/features/small_language_model.h"
#include "tests/formats/error_text.h"
#include "tests/inference/small_gguf.h"
#include "tests/language/small_encoder.h"

namespace sememe {
namespace {

/// Keeps what passes a site, and which sites were reached.
struct Witness : SiteVisitor {
  explicit Witness(std::string wanted) : site(std::move(wanted)) {}
  torch::Tensor visit(const Site& at, torch::Tensor value) override {
    reached.push_back(at.name);
    if (at.name == site) seen = value;
    return value;
  }
  std::string site;
  std::vector<std::string> reached;
  torch::Tensor seen;
};

/// Adds a tensor at a site.
struct Shift : SiteVisitor {
  Shift(std::string wanted, torch::Tensor what) : site(std::move(wanted)), shift(std::move(what)) {}
  torch::Tensor visit(const Site& at, torch::Tensor value) override { return at.name == site ? value + shift : value; }
  std::string site;
  torch::Tensor shift;
};

class CaptureFolder : public ScratchFolder {
 protected:
  void SetUp() override {
    ScratchFolder::SetUp();
    text_ = write_text(folder_ / "text.txt");
  }
  CaptureOptions options(const char* site = "blocks.0.output") const {
    return {.site = site, .tokens = 100000, .batch_tokens = 60, .half = false};
  }
  ActivationRows captured(const CaptureOptions& options, const char* name = "s") {
    capture(model_, text_, options, folder_ / name);
    const ActivationStore store = ActivationStore::open(folder_ / name);
    return store.read(0, store.rows());
  }
  std::vector<TokenBatch> batches() const {
    std::vector<TokenBatch> all;
    TokenContexts contexts = open_contexts(model_, text_, 60);
    while (auto batch = contexts.next()) all.push_back(*batch);
    return all;
  }

  LanguageModel model_ = small_language_model();
  std::filesystem::path text_;
};

TEST_F(CaptureFolder, RowsAreTheNetworksOwnWithoutTheLeadingEndOfText) {
  const torch::NoGradGuard no_autograd;
  for (const char* const site : {"embedding", "blocks.0.mlp.act", "blocks.1.output", "norm"}) {
    const torch::Tensor rows = captured(options(site), site).activations;
    std::vector<torch::Tensor> wanted;
    for (const TokenBatch& batch : batches())
      for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
        // Each context alone and without padding.
        const int64_t length = batch.valid[row].sum().item<int64_t>() + 1;
        Witness witness(site);
        model_.network->forward({batch.tokens[row].narrow(0, 0, length).unsqueeze(0), {}}, witness);
        wanted.push_back(witness.seen[0].narrow(0, 1, length - 1));
      }
    const torch::Tensor all = torch::cat(wanted);
    ASSERT_EQ(rows.sizes(), all.sizes()) << site;
    EXPECT_LT((rows - all).abs().max().item<double>(), 1e-5) << site;
  }
}

TEST_F(CaptureFolder, EveryTokenOfTheTextIsOneRow) {
  TokenContexts contexts = open_contexts(model_, text_, 60);
  int64_t tokens = 0;
  while (const auto batch = contexts.next()) tokens += batch->valid_tokens;
  EXPECT_EQ(captured(options()).activations.size(0), tokens);
}

TEST_F(CaptureFolder, StopsTheForwardPassAfterTheSite) {
  const torch::Tensor wanted = captured(options("blocks.0.output"), "whole").activations;
  // Weights of a shape that no layer above the site could use.
  for (auto& parameter : model_.network->named_parameters())
    if (parameter.key().find("block1.") != std::string::npos) parameter.value().set_data(torch::zeros({1, 1}));
  EXPECT_TRUE(torch::equal(captured(options("blocks.0.output"), "cut").activations, wanted));
  EXPECT_THROW(captured(options("blocks.1.output"), "above"), std::exception);
}

TEST_F(CaptureFolder, GradientsEqualThoseOfTheStatedLoss) {
  for (const bool mean : {false, true})
    for (const bool own_choice : {false, true}) {
      CaptureOptions with = options();
      with.gradients = true;
      with.gradient_loss = {mean, own_choice};
      const torch::Tensor found = captured(with, mean ? (own_choice ? "a" : "b") : (own_choice ? "c" : "d")).gradients;
      std::vector<torch::Tensor> wanted;
      for (const TokenBatch& batch : batches())
        for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
          const int64_t length = batch.valid[row].sum().item<int64_t>() + 1;
          const torch::Tensor tokens = batch.tokens[row].narrow(0, 0, length).unsqueeze(0);
          const torch::Tensor shift = torch::zeros({1, length, 16}).requires_grad_(true);
          Shift visitor("blocks.0.output", shift);
          const torch::Tensor logits = model_.network->forward({tokens, {}}, visitor)[0].narrow(0, 0, length - 1);
          const torch::Tensor targets = own_choice ? logits.argmax(-1) : tokens[0].narrow(0, 1, length - 1);
          const torch::Tensor picked = logits.log_softmax(-1).gather(1, targets.unsqueeze(1));
          (mean ? -picked.mean() : -picked.sum()).backward();
          wanted.push_back(shift.grad()[0].narrow(0, 1, length - 1));
        }
      const torch::Tensor all = torch::cat(wanted);
      ASSERT_GT(all.norm().item<double>(), 1e-3);
      EXPECT_LT((found - all).norm().item<double>(), 1e-5 * all.norm().item<double>()) << mean << own_choice;
    }
}

TEST_F(CaptureFolder, TheLastTokenOfAContextHasNoGradient) {
  CaptureOptions with = options();
  with.gradients = true;
  const torch::Tensor gradients = captured(with).gradients;
  int64_t row = -1;
  for (const TokenBatch& batch : batches())
    for (int64_t context = 0; context < batch.tokens.size(0); ++context) {
      row += batch.valid[context].sum().item<int64_t>();
      EXPECT_EQ(gradients[row].abs().max().item<float>(), 0.0f);
    }
}

TEST_F(CaptureFolder, ActivationsAreTheSameWithGradientsAsWithout) {
  CaptureOptions with = options();
  with.gradients = true;
  EXPECT_LT((captured(with, "with").activations - captured(options(), "without").activations).abs().max().item<double>(), 1e-5);
}

TEST_F(CaptureFolder, IsTheSameOnEachRun) {
  EXPECT_TRUE(torch::equal(captured(options(), "a").activations, captured(options(), "b").activations));
}

TEST_F(CaptureFolder, StopsAtTheNumberOfTokens) {
  CaptureOptions few = options();
  few.tokens = 31;
  EXPECT_TRUE(torch::equal(captured(few, "few").activations, captured(options(), "all").activations.narrow(0, 0, 31)));
}

TEST_F(CaptureFolder, AnInterruptedCaptureGoesOnToTheSameStore) {
  CaptureOptions with = options();
  with.gradients = true;
  const ActivationRows whole = captured(with, "whole");
  const Json origin = ActivationStore::open(folder_ / "whole").origin();
  // What an interruption after two batches leaves; a third is lost.
  const std::vector<TokenBatch> all = batches();
  ASSERT_GT(all.size(), 3u);
  {
    ActivationWriter writer(folder_ / "s", {.width = 16, .gradients = true, .half = false, .origin = origin, .shard_rows = 1});
    int64_t begin = 0;
    for (int i = 0; i < 2; ++i) {
      writer.append(whole.activations.narrow(0, begin, all[i].valid_tokens), whole.gradients.narrow(0, begin, all[i].valid_tokens));
      begin += all[i].valid_tokens;
    }
  }
  const ActivationRows resumed = captured(with);
  EXPECT_TRUE(torch::equal(resumed.activations, whole.activations));
  EXPECT_TRUE(torch::equal(resumed.gradients, whole.gradients));
  EXPECT_EQ(capture(model_, text_, with, folder_ / "s"), whole.activations.size(0));  // complete: nothing to do
}

TEST_F(CaptureFolder, AnotherCaptureIsNotContinued) {
  captured(options());
  const auto refused = [&](auto change) {
    CaptureOptions other = options();
    change(other);
    return contains(error_from([&] { capture(model_, text_, other, folder_ / "s"); }), {"s: ", "other settings"});
  };
  EXPECT_TRUE(refused([](CaptureOptions& other) { other.site = "blocks.1.output"; }));
  EXPECT_TRUE(refused([](CaptureOptions& other) { other.tokens = 30; }));
  EXPECT_TRUE(refused([](CaptureOptions& other) { other.gradients = true; }));
  EXPECT_TRUE(refused([](CaptureOptions& other) { other.half = true; }));
  write_text(folder_ / "text.txt", 11);
  EXPECT_TRUE(refused([](CaptureOptions&) {}));
}

TEST_F(CaptureFolder, WrongRequestsAreRefused) {
  EXPECT_THROW(capture(model_, text_, options("blocks.9.output"), folder_ / "s"), UsageError);
  CaptureOptions none = options();
  none.tokens = 0;
  EXPECT_THROW(capture(model_, text_, none, folder_ / "s"), UsageError);
  EXPECT_TRUE(contains(error_from([&] { capture(model_, folder_ / "none.txt", options(), folder_ / "s"); }), {"none.txt"}));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "s"));
}

TEST(Differentiate, ANetworkWithoutGradientsIsRefusedBeforeItRuns) {
  const SmallGgufFile file({.type = GgmlType::kQ4_1});
  const LanguageModel model = LanguageModel::load(file.path(), Precision::kFile);
  TokenBatch batch;
  batch.tokens = torch::zeros({1, 4}, torch::kInt64), batch.targets = torch::zeros({1, 4}, torch::kInt64);
  EXPECT_TRUE(contains(error_from([&] { differentiate_at(*model.network, "blocks.0.output", batch, {}); }), {"no gradients", "float32"}));
}

TEST_F(CaptureFolder, OfAnEncoderHasARowForEachTokenOfTheTexts) {
  testing::write_small_bert(folder_ / "bert");
  const SentenceEncoder encoder = SentenceEncoder::load(folder_ / "bert");
  write_file(text_, "a b c\n<|endoftext|>\nd e f g h\n");
  CaptureOptions wanted = options("blocks.1.output");
  EXPECT_EQ(capture(encoder, text_, wanted, folder_ / "s"), 8);
  const ActivationStore store = ActivationStore::open(folder_ / "s");
  const torch::NoGradGuard no_grad;
  Witness first("blocks.1.output"), second("blocks.1.output");
  encoder.network->forward({torch::tensor({{2, 5, 6, 7, 3}}), {}}, first);
  encoder.network->forward({torch::tensor({{2, 8, 9, 10, 11, 12, 3}}), {}}, second);
  EXPECT_TRUE(torch::allclose(store.read(0, 8).activations, torch::cat({first.seen[0].narrow(0, 1, 3), second.seen[0].narrow(0, 1, 5)}), 1e-5, 1e-6));
  EXPECT_EQ(store.origin().at("context"), 12);
  wanted.gradients = true;
  EXPECT_NE(error_from([&] { capture(encoder, text_, wanted, folder_ / "t"); }).find("--gradients"), std::string::npos);
}

}  // namespace
}  // namespace sememe
