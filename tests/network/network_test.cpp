#include "sememe/network/network.h"

#include <gtest/gtest.h>

#include "sememe/base/error.h"

namespace sememe {
namespace {

class TwoSites : public Network {
 public:
  const std::vector<Site>& sites() const override { return sites_; }
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override {
    return pass(sites_[1], pass(sites_[0], batch.inputs, visitor), visitor);
  }
  torch::Tensor loss(const torch::Tensor& output, const Batch& batch) const override { return output.sum(); }

 private:
  std::vector<Site> sites_ = {{"stem", 3}, {"blocks.0.output", 5, "pixel"}};
};

TEST(Network, FindSiteGivesTheSiteOfThatName) {
  const TwoSites network;
  EXPECT_EQ(find_site(network, "blocks.0.output").width, 5);
  EXPECT_EQ(find_site(network, "blocks.0.output").row, "pixel");
  EXPECT_EQ(&find_site(network, "stem"), &network.sites()[0]);
}

TEST(Network, FindSiteListsTheSitesWhereThereIsNoneOfThatName) {
  const TwoSites network;
  for (const char* const name : {"", "ste", "stem ", "blocks.1.output"}) {
    try {
      find_site(network, name);
      FAIL() << name;
    } catch (const UsageError& error) {
      EXPECT_EQ(std::string(error.what()),
                fmt::format("there is no site \"{}\"; this network has stem, blocks.0.output", name));
    }
  }
}

TEST(Network, JoinedSitesAreFoundInTheOrderOfTheNetwork) {
  const TwoSites network;
  const std::vector<Site> both = find_sites(network, "stem+blocks.0.output");
  ASSERT_EQ(both.size(), 2u);
  EXPECT_EQ(both[1].width, 5);
  EXPECT_EQ(find_sites(network, "stem").size(), 1u);
  for (const char* const wrong : {"blocks.0.output+stem", "stem+stem", "stem+", "stem+nowhere"})
    EXPECT_THROW(find_sites(network, wrong), UsageError) << wrong;
  try {
    find_site(network, "stem+blocks.0.output");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("several sites"), std::string::npos) << error.what();
  }
}

struct Scale : SiteVisitor {
  Scale(double by, double more) : factor(by), added(more) {}
  torch::Tensor visit(const Site& site, torch::Tensor value) override { return site.name == "stem" ? value * factor + added : value; }
  double factor, added;
};

TEST(Network, AnAddedVisitorComesBeforeTheOneThatForwardIsGiven) {
  TwoSites network;
  network.add_visitor(std::make_shared<Scale>(3.0, 1.0));
  Scale given(2.0, -5.0);
  EXPECT_EQ(network.forward({torch::ones({1}), {}}, given).item<double>(), (1.0 * 3 + 1) * 2 - 5);
}

TEST(Network, AVisitorByDefaultReturnsTheVeryTensorAndNeverFinishes) {
  SiteVisitor nobody;
  const torch::Tensor value = torch::ones({2});
  EXPECT_TRUE(nobody.visit({"stem", 2}, value).is_same(value));
  EXPECT_FALSE(nobody.finished());
}

}  // namespace
}  // namespace sememe
