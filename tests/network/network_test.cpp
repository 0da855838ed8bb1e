#include "sememe/network/network.h"

#include <gtest/gtest.h>

#include "sememe/base/error.h"

namespace sememe {
namespace {

class TwoSites : public Network {
 public:
  const std::vector<Site>& sites() const override { return sites_; }
  torch::Tensor forward(const Batch& batch, SiteVisitor& visitor) override { return batch.inputs; }
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

TEST(Network, AVisitorByDefaultReturnsTheVeryTensorAndNeverFinishes) {
  SiteVisitor nobody;
  const torch::Tensor value = torch::ones({2});
  EXPECT_TRUE(nobody.visit({"stem", 2}, value).is_same(value));
  EXPECT_FALSE(nobody.finished());
}

}  // namespace
}  // namespace sememe
