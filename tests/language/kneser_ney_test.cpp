#include "sememe/language/kneser_ney.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/random.h"

namespace sememe {
namespace {

using Ids = std::vector<int32_t>;

/// The same model with maps of vectors, as the paper's equations are written, over documents that begin with separator
/// 0.
class Reference {
 public:
  Reference(const std::vector<Ids>& documents, int64_t vocabulary, int order) : vocabulary_(vocabulary), order_(order) {
    counts_.resize(order + 1);
    for (const Ids& document : documents) {
      Ids padded = {0};
      padded.insert(padded.end(), document.begin(), document.end());
      for (int n = 1; n <= order; ++n)
        for (size_t i = 0; i + n <= padded.size(); ++i) add(Ids(padded.begin() + i, padded.begin() + i + n));
    }
    for (int n = 1; n < order; ++n) use_left_neighbours(n);
    for (int n = 1; n <= order; ++n) discounts_.push_back(discounts_of(n));
  }

  double probability(Ids history, int32_t token) const {
    while (static_cast<int>(history.size()) >= order_) history.erase(history.begin());
    const int n = static_cast<int>(history.size()) + 1;
    const Ids shorter = history.empty() ? Ids{} : Ids(history.begin() + 1, history.end());
    const double below = history.empty() ? 1.0 / static_cast<double>(vocabulary_ - 1) : probability(shorter, token);
    double total = 0, freed = 0, own = 0;
    for (int32_t other = 1; other < vocabulary_; ++other) {
      Ids gram = history;
      gram.push_back(other);
      const auto found = counts_[n].find(gram);
      if (found == counts_[n].end()) continue;
      const double discount = discounts_[n - 1][std::min<int64_t>(found->second, 3) - 1];
      total += static_cast<double>(found->second);
      freed += discount;
      if (other == token) own = static_cast<double>(found->second) - discount;
    }
    return total == 0 ? below : own / total + freed / total * below;
  }

 private:
  void add(const Ids& gram) {
    const bool only_separator = gram.size() == 1 && gram[0] == 0;
    if (!only_separator) ++counts_[gram.size()][gram];
    if (gram.size() > 1) left_[Ids(gram.begin() + 1, gram.end())].insert(gram[0]);
  }
  void use_left_neighbours(int n) {
    for (auto& [gram, count] : counts_[n])
      if (gram[0] != 0) count = static_cast<int64_t>(left_.at(gram).size());
  }
  Discounts discounts_of(int n) const {
    std::array<int64_t, 4> occurring{};
    for (const auto& [gram, count] : counts_[n])
      if (count <= 4) ++occurring[count - 1];
    return kneser_ney_discounts(occurring);
  }

  int64_t vocabulary_;
  int order_;
  std::vector<std::map<Ids, int64_t>> counts_;
  std::map<Ids, std::set<int32_t>> left_;
  std::vector<Discounts> discounts_;
};

std::vector<Ids> random_documents(uint64_t seed, int64_t vocabulary) {
  RandomStream stream(seed, "documents");
  std::vector<Ids> documents(60);
  for (Ids& document : documents) {
    int32_t token = 1;
    const uint64_t length = stream.below(40);
    for (uint64_t i = 0; i < length; ++i) {
      // Mostly a fixed successor, so that long n-grams repeat.
      token = stream.uniform() < 0.6 ? 1 + (token * 7) % static_cast<int32_t>(vocabulary - 1)
                                     : 1 + static_cast<int32_t>(stream.below(vocabulary - 1));
      document.push_back(token);
    }
  }
  return documents;
}

Ids stream_of(const std::vector<Ids>& documents) {
  Ids stream;
  for (const Ids& document : documents) {
    stream.push_back(0);
    stream.insert(stream.end(), document.begin(), document.end());
  }
  return stream;
}

TEST(KneserNey, DiscountsFollowChenAndGoodman) {
  // Y = 8 / (8 + 2 * 4) = 1/2; D1 = 1 - 2Y 4/8, D2 = 2 - 3Y 2/4, D3+ = 3 - 4Y 1/2.
  const Discounts discounts = kneser_ney_discounts({8, 4, 2, 1});
  EXPECT_DOUBLE_EQ(discounts[0], 0.5);
  EXPECT_DOUBLE_EQ(discounts[1], 1.25);
  EXPECT_DOUBLE_EQ(discounts[2], 2.0);
}

TEST(KneserNey, TinyTextsUseOneDiscount) {
  EXPECT_EQ(kneser_ney_discounts({6, 3, 0, 1}), (Discounts{0.5, 0.5, 0.5}));
  EXPECT_EQ(kneser_ney_discounts({0, 2, 1, 1}), (Discounts{0.5, 0.5, 0.5}));
}

TEST(KneserNey, BigramsOfATinyTextAreAsByHand) {
  // Documents "1 2" and "1 3", separator 0. Bigrams: 01 twice, 12 once, 13 once: n1 = 2, n2 = 1, D = 2 / 4.
  // Unigrams count left neighbours: 1, 2 and 3 have one each: n1 = 3, D = 1; everything goes to the uniform 1/3.
  const KneserNey model(Ids{0, 1, 2, 0, 1, 3}, 0, 4, 2);
  EXPECT_EQ(model.discounts(2), (Discounts{0.5, 0.5, 0.5}));
  EXPECT_EQ(model.discounts(1), (Discounts{1.0, 1.0, 1.0}));
  EXPECT_DOUBLE_EQ(model.probability(Ids{0}, 1), 1.5 / 2 + 0.5 / 2 / 3);
  EXPECT_DOUBLE_EQ(model.probability(Ids{1}, 2), 0.5 / 2 + 1.0 / 2 / 3);
  EXPECT_DOUBLE_EQ(model.probability(Ids{3}, 2), 1.0 / 3);
  EXPECT_DOUBLE_EQ(model.bits(Ids{1, 2}),
                   -std::log2(model.probability(Ids{0}, 1)) - std::log2(model.probability(Ids{1}, 2)));
}

TEST(KneserNey, AgreesWithTheEquationsWrittenPlainly) {
  for (const int order : {1, 2, 3, 5}) {
    const std::vector<Ids> documents = random_documents(order, 12);
    const KneserNey model(stream_of(documents), 0, 12, order);
    const Reference reference(documents, 12, order);
    for (const Ids& document : random_documents(77, 12)) {
      Ids history = {0};
      double bits = 0;
      for (const int32_t token : document) {
        const double expected = reference.probability(history, token);
        ASSERT_NEAR(model.probability(history, token), expected, 1e-12);
        bits -= std::log2(expected);
        history.push_back(token);
      }
      ASSERT_NEAR(model.bits(document), bits, 1e-9);
    }
  }
}

TEST(KneserNey, ProbabilitiesSumToOneAfterAnyHistory) {
  const KneserNey model(stream_of(random_documents(3, 30)), 0, 30);
  const std::vector<Ids> histories = {
      {}, {0}, {0, 1}, {1, 7}, {1, 7, 20}, {29, 29, 29, 29}, {5, 0, 1, 7}, {9, 8, 7, 6, 5, 4}};
  for (const Ids& history : histories) {
    double sum = 0;
    for (int32_t token = 1; token < 30; ++token) {
      const double probability = model.probability(history, token);
      EXPECT_GT(probability, 0);
      sum += probability;
    }
    EXPECT_NEAR(sum, 1.0, 1e-12);
  }
}

TEST(KneserNey, NothingCrossesASeparator) {
  const KneserNey model(stream_of(random_documents(4, 12)), 0, 12);
  EXPECT_EQ(model.probability(Ids{3, 4, 0, 2}, 5), model.probability(Ids{7, 1, 0, 2}, 5));
  EXPECT_NEAR(model.bits(Ids{1, 2, 0, 3, 4}), model.bits(Ids{1, 2}) + model.bits(Ids{3, 4}), 1e-9);
}

TEST(KneserNey, LongOrdersPredictARepeatedTextBetter) {
  const Ids stream = stream_of(random_documents(5, 12));
  EXPECT_LT(KneserNey(stream, 0, 12, 5).bits(stream), KneserNey(stream, 0, 12, 1).bits(stream));
}

TEST(KneserNey, BadInputIsRefused) {
  EXPECT_THROW(KneserNey(Ids{0, 12}, 0, 12), Error);
  EXPECT_THROW(KneserNey(Ids{0, -1}, 0, 12), Error);
  EXPECT_THROW(KneserNey(Ids{0, 0, 0}, 0, 12), Error);
  EXPECT_THROW(KneserNey(Ids{}, 0, 12), Error);
  EXPECT_THROW(KneserNey(Ids{0, 1}, 0, 12, 6), UsageError);
  EXPECT_THROW(KneserNey(Ids{0, 1}, 0, 12).probability(Ids{}, 0), Error);
}

}  // namespace
}  // namespace sememe
