#include "sememe/data/seen_text.h"

#include <gtest/gtest.h>

#include "tests/formats/error_text.h"

namespace sememe {
namespace {

struct Documents : Corpus {
  explicit Documents(std::vector<std::string> given) : texts(std::move(given)) {}
  std::optional<Document> next() override {
    if (place == texts.size()) return std::nullopt;
    return Document{texts[place++], ""};
  }
  std::vector<std::string> texts;
  size_t place = 0;
};

TEST(StandIn, FindsSentencesAcrossCaseSpacesAndPunctuation) {
  Documents documents({"Nothing here.", "Cow: a large beast,\n that gives MILK; also meat"});
  const std::vector<std::string> sentences = {"a large beast that gives milk", "a large beast that gives meat", "beast that gives milk also"};
  EXPECT_EQ(stand_in(sentences, documents), (std::vector<bool>{true, false, true}));
}

TEST(StandIn, LooksAtWholeWordsWithinOneDocument) {
  Documents documents({"the old house stood", "on the hill", "the old houses stood on the hill"});
  const std::vector<std::string> sentences = {"the old house stood on", "old house stood on the"};
  EXPECT_EQ(stand_in(sentences, documents), (std::vector<bool>{false, false}));
}

TEST(StandIn, RefusesSentencesThatMayStandAnywhere) {
  Documents documents({"text"});
  const std::vector<std::string> sentences = {"of the"};
  EXPECT_TRUE(contains(error_from([&] { stand_in(sentences, documents); }), {"of the", "too short"}));
}

}  // namespace
}  // namespace sememe
