#include "sememe/data/wordnet.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "sememe/base/files.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

class WordNet : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / fmt::format("wordnet_test-{}", getpid());
    std::filesystem::create_directories(folder_);
    write_file(folder_ / "data.verb", "");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(WordNet, GivesDefinitionsWithTheClassOfTheirLexicographerFile) {
  write_file(folder_ / "data.noun",
             "  1 a line of the licence\n"
             "00000001 05 n 01 cow 0 000 | a large beast that gives milk; \"the cow jumped over the moon\"  \n"
             "00000002 13 n 01 stew 0 000 | meat and roots cooked slowly; eaten hot  \n");
  write_file(folder_ / "data.verb", "00000003 38 v 01 jog 0 000 01 + 02 00 | run slowly and without haste; \"he jogs\"  \n");
  const std::vector<LabelledSentence> sentences = read_wordnet_glosses(folder_);
  ASSERT_EQ(sentences.size(), 3u);
  EXPECT_EQ(sentences[0].text, "a large beast that gives milk");
  EXPECT_EQ(sentences[0].label, "noun.animal");
  EXPECT_EQ(sentences[1].text, "meat and roots cooked slowly; eaten hot");
  EXPECT_EQ(sentences[1].label, "noun.food");
  EXPECT_EQ(sentences[2].label, "verb.motion");
}

TEST_F(WordNet, LeavesOutShortTextsAndRepeats) {
  write_file(folder_ / "data.noun",
             "00000001 05 n 01 ox 0 000 | a beast  \n"
             "00000002 05 n 01 cow 0 000 | a large beast of the field  \n"
             "00000003 13 n 01 beef 0 000 | a large beast of the field  \n");
  const std::vector<LabelledSentence> sentences = read_wordnet_glosses(folder_);
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_EQ(sentences[0].label, "noun.animal");
}

TEST_F(WordNet, SaysWhatIsMissingOrMalformed) {
  EXPECT_TRUE(contains(error_from([&] { read_wordnet_glosses(folder_ / "none"); }), {"data.noun", "wordnet-base"}));
  write_file(folder_ / "data.noun", "00000001 05 n 01 ox 0 000\n");
  EXPECT_TRUE(contains(error_from([&] { read_wordnet_glosses(folder_); }), {"data.noun", "line 1"}));
  write_file(folder_ / "data.noun", "00000001 77 n 01 ox 0 000 | a beast with two large horns\n");
  EXPECT_TRUE(contains(error_from([&] { read_wordnet_glosses(folder_); }), {"data.noun", "line 1"}));
}

TEST(LexicographerFile, KnowsTheNamesByNumber) {
  EXPECT_EQ(lexicographer_file(0), "adj.all");
  EXPECT_EQ(lexicographer_file(5), "noun.animal");
  EXPECT_EQ(lexicographer_file(28), "noun.time");
  EXPECT_EQ(lexicographer_file(43), "verb.weather");
  EXPECT_THROW(lexicographer_file(45), Error);
}

}  // namespace
}  // namespace sememe
