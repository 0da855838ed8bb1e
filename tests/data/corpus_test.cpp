#include "sememe/data/corpus.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <set>

#include "sememe/base/progress.h"
#include "sememe/data/byte_stream.h"
#include "sememe/data/dictd.h"
#include "sememe/data/jsonl.h"
#include "sememe/data/markup.h"
#include "sememe/data/recipe.h"
#include "tests/formats/error_text.h"

namespace sememe {
namespace {

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    set_quiet(true);
    folder = std::filesystem::temp_directory_path() / fmt::format("data_test-{}", getpid());
    std::filesystem::create_directories(folder);
  }
  void TearDown() override { std::filesystem::remove_all(folder); }
  std::filesystem::path put(const std::string& name, const std::string& bytes) {
    write_file(folder / name, bytes);
    return folder / name;
  }
  static std::vector<std::string> texts(const std::filesystem::path& path) {
    std::vector<std::string> result;
    const auto corpus = open_corpus(path);
    while (const auto document = corpus->next()) result.push_back(document->text);
    return result;
  }
  static std::string error_of(const std::filesystem::path& path) {
    return error_from([&] { texts(path); });
  }
  std::string gzip(const std::string& text) {
    const auto path = folder / "made.gz";
    gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
    gzclose(file);
    return read_file(path);
  }
  std::string zstd(const std::string& text) {
    JsonlWriter writer(folder / "made.zst");
    writer.write({{"text", text}});
    writer.commit();
    return read_file(folder / "made.zst");
  }
  std::filesystem::path folder;
};

using Corpora = Files;

TEST_F(Corpora, SeparatorLinesCutDocuments) {
  EXPECT_EQ(texts(put("a.txt", "One\n\nstill one.\n<|endoftext|>\n\nTwo.\n<|endoftext|>\n")),
            (std::vector<std::string>{"One\n\nstill one.", "Two."}));
}
TEST_F(Corpora, BlankLinesCutTextIntoDocumentsOfTwoThousandBytes) {
  const std::string paragraph(1'500, 'x');
  EXPECT_EQ(texts(put("a.txt", paragraph + "\n\n" + paragraph + "\n\nrest\n")),
            (std::vector<std::string>{paragraph + "\n\n" + paragraph, "rest"}));
}
TEST_F(Corpora, JsonLinesGiveTheMemberText) {
  EXPECT_EQ(texts(put("a.jsonl", "{\"text\":\"One\"}\n\n{\"text\":\"Two\"}\n")),
            (std::vector<std::string>{"One", "Two"}));
}
TEST_F(Corpora, JsonLineWithoutTextNamesFileAndLine) {
  EXPECT_TRUE(contains(error_of(put("a.jsonl", "{\"text\":\"One\"}\n{\"txt\":1}\n")), {"a.jsonl:2", "text"}));
}
TEST_F(Corpora, BrokenJsonLineNamesFileAndLine) {
  EXPECT_TRUE(contains(error_of(put("a.jsonl", "{\"text\":\"One\"}\n{\"text\":\n")), {"a.jsonl:2"}));
}
TEST_F(Corpora, MissingFileIsNamed) {
  EXPECT_TRUE(contains(error_of(folder / "none.txt"), {"none.txt"}));
}
TEST_F(Corpora, FolderIsAnError) {
  EXPECT_TRUE(contains(error_of(folder), {"folder"}));
}
TEST_F(Corpora, EmptyFileIsAnError) {
  EXPECT_TRUE(contains(error_of(put("a.txt", "")), {"no text"}));
}
TEST_F(Corpora, NulByteIsAnErrorWithItsPlace) {
  EXPECT_TRUE(contains(error_of(put("a.txt", std::string("ab\ncd\0e", 7))), {"byte 5"}));
}
TEST_F(Corpora, ManyInvalidBytesAreAnError) {
  EXPECT_TRUE(contains(error_of(put("a.txt", std::string(1000, '\xfe'))), {"binary"}));
}
TEST_F(Corpora, OneInvalidByteIsReplaced) {
  EXPECT_EQ(texts(put("a.txt", "caf\xe9 au lait")), (std::vector<std::string>{"caf\xEF\xBF\xBD au lait"}));
}
TEST_F(Corpora, GzipIsToldByContentAndReadOverMembers) {
  EXPECT_EQ(texts(put("a.txt", gzip("One\n") + gzip("Two\n"))), (std::vector<std::string>{"One\nTwo"}));
}
TEST_F(Corpora, ZstdIsToldByContent) {
  EXPECT_EQ(texts(put("a.jsonl.zst", zstd("One") + zstd("Two"))), (std::vector<std::string>{"One", "Two"}));
}
TEST_F(Corpora, TruncatedGzipIsAnError) {
  const std::string whole = gzip(std::string(5'000, 'x') + "\n");
  for (size_t bytes = 2; bytes < whole.size(); ++bytes)
    ASSERT_TRUE(contains(error_of(put("a.txt", whole.substr(0, bytes))), {"a.txt", "ends inside"})) << bytes;
}
TEST_F(Corpora, TruncatedZstdIsAnError) {
  const std::string whole = zstd("One two three four five six");
  for (size_t bytes = 4; bytes < whole.size(); ++bytes)
    ASSERT_TRUE(contains(error_of(put("a.jsonl", whole.substr(0, bytes))), {"a.jsonl", "ends inside"})) << bytes;
}
TEST_F(Corpora, DamagedGzipIsAnError) {
  std::string bytes = gzip(std::string(5'000, 'x'));
  bytes[bytes.size() / 2] ^= 0x55;
  EXPECT_TRUE(contains(error_of(put("a.txt", bytes)), {"a.txt"}));
  EXPECT_FALSE(contains(error_of(put("a.txt", bytes)), {"no error"}));
}

RC_GTEST_PROP(Utf8, RepairedTextIsValidAndRepairKeepsValidText, (std::string text)) {
  repair_utf8(text);
  std::string again = text;
  RC_ASSERT(repair_utf8(again) == 0u);
  RC_ASSERT(again == text);
}
TEST(Utf8, SurrogatesAndOverlongFormsAreInvalid) {
  for (const char* bytes : {"\xed\xa0\x80", "\xc0\x80", "\xe0\x80\x80", "\xf4\x90\x80\x80", "\xf0\x80\x80\x80"}) {
    std::string text = bytes;
    EXPECT_GT(repair_utf8(text), 0u);
  }
}

using Jsonl = Files;
TEST_F(Jsonl, NothingIsLeftWithoutCommit) {
  {
    JsonlWriter(folder / "a.jsonl").write({{"a", 1}});
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}
TEST_F(Jsonl, LineThatIsNoObjectIsAnError) {
  JsonlReader reader(put("a.jsonl", "{}\n[1]\n"));
  EXPECT_TRUE(reader.next());
  EXPECT_TRUE(contains(error_from([&] { reader.next(); }), {"a.jsonl:2"}));
}
TEST_F(Jsonl, MegabytesComeBackThroughZstd) {
  JsonlWriter writer(folder / "a.jsonl.zst");
  for (int i = 0; i < 50'000; ++i) writer.write({{"number", i}, {"text", std::string(50, 'a' + i % 26)}});
  writer.commit();
  JsonlReader reader(folder / "a.jsonl.zst");
  for (int i = 0; i < 50'000; ++i) ASSERT_EQ(reader.next()->at("number"), i);
  EXPECT_FALSE(reader.next());
}

using Dictd = Files;
TEST_F(Dictd, EntriesComeOnceAndDescriptionsNotAtAll) {
  put("d.dict", "infocat\nA pet.\n");
  const auto documents = read_dictd(put("d.index", "00-database-info\tA\tE\ncat\tE\tL\nfeline\tE\tL\n"));
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].text, "cat\nA pet.\n");
}
TEST_F(Dictd, EntryBeyondTheTextNamesTheLine) {
  put("d.dict", "cat\n");
  EXPECT_TRUE(contains(error_from([&] { read_dictd(put("d.index", "cat\tA\tE\ndog\tE\tB\n")); }), {"d.index:2"}));
}
TEST_F(Dictd, FortunesAreCutAtPercentLines) {
  const auto documents = read_fortunes(put("f", "One\n%\nTwo\nlines\n%%%%\n\n%\n"));
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[1].text, "Two\nlines\n");
}

TEST(Markup, HtmlKeepsTextAndDropsScripts) {
  EXPECT_EQ(unwrap(html_to_text("<head><title>x</title></head><p>A &amp; B&#233;<script>no()</script></p><p>C")),
            "A & Bé\n\nC");
}
TEST(Markup, PodOpensCodesAndDropsVerbatim) {
  EXPECT_EQ(unwrap(pod_to_text("code\n\n=head1 NAME\n\nUse C<print> X<index>now.\n\n  verbatim\n\n=cut\ncode\n")),
            "NAME\n\nUse print now.");
}
TEST(Markup, RstOpensRolesAndDropsDirectives) {
  EXPECT_EQ(unwrap(rst_to_text("Title\n=====\n\n.. note:: x\n\nSee :ref:`that` and ``code``.\n")),
            "Title\n\nSee that and code.");
}
TEST(Markup, NoBreakSpacesAreSpaces) {
  EXPECT_EQ(unwrap("1.\u00a0\u00a0 One é\u00a0"), "1. One é");
}
TEST(Markup, WrappedLinesFlowAndListItemsStandAlone) {
  const std::string wrapped =
      "  This line is certainly long enough to be wrapped\n  and it goes on.\n   [1913 Webster]\n  2. Item\n\n\n\nNext";
  EXPECT_EQ(unwrap(wrapped), "This line is certainly long enough to be wrapped and it goes on.\n2. Item\n\nNext");
}

class Recipe : public Files {
 protected:
  std::filesystem::path list(const Json& sources) {
    write_json(folder / "list.json", {{"sources", sources}});
    return folder / "list.json";
  }
};
Json source(const std::string& name, const std::filesystem::path& path) {
  return {{"name", name},
          {"format", "jsonl"},
          {"paths", {path.string()}},
          {"package", "dict-" + name},
          {"licence", "GPL-2"}};
}
TEST_F(Recipe, MissingSourceNamesThePackage) {
  EXPECT_TRUE(
      contains(error_from([&] { build_corpus(list(Json::array({source("gcide", folder / "none")})), folder / "out", 1); }),
               {"gcide", "install the Debian package dict-gcide"}));
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}
TEST_F(Recipe, UnknownFormatIsAnError) {
  Json bad = source("x", put("a.jsonl", "{\"text\":\"a\"}"));
  bad["format"] = "doc";
  EXPECT_TRUE(contains(error_from([&] { build_corpus(list(Json::array({bad})), folder / "out", 1); }), {"\"doc\""}));
}
TEST_F(Recipe, SplitsShareNoSentenceAndAreTheSameAgain) {
  {
    JsonlWriter writer(folder / "in.jsonl");
    for (int i = 0; i < 2'000; ++i)
      writer.write(
          {{"text",
            fmt::format(
                "Sentence number {} is the only one of its kind here. The same sentence closes every document, always. "
                "And {} words {} follow in a row that {} nobody else would ever write down but {}.",
                i, i, i, i, i)}});
    writer.commit();
  }
  const std::filesystem::path sources = list(Json::array({source("made", folder / "in.jsonl")}));
  build_corpus(sources, folder / "out", 7);
  build_corpus(sources, folder / "again", 7);
  std::set<std::string> seen;
  for (const char* split : {"train", "validation", "heldout"}) {
    const std::string name = fmt::format("{}.jsonl.zst", split);
    EXPECT_EQ(read_file(folder / "out" / name), read_file(folder / "again" / name));
    int documents = 0;
    JsonlReader reader(folder / "out" / name);
    while (const auto object = reader.next()) {
      ++documents;
      const auto text = object->at("text").get<std::string>();
      for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find(". ", at), text.size());
        EXPECT_TRUE(seen.insert(text.substr(at, end - at)).second) << text.substr(at, end - at);
        at = end + 2;
      }
    }
    EXPECT_GT(documents, 5) << split;
  }
  const Json report = read_json(folder / "out" / "sources.json");
  EXPECT_EQ(report.at("sources").at(0).at("licence"), "GPL-2");
}
TEST_F(Recipe, TwelveWordsInARowOfTrainingTextAreDroppedFromHeldOut) {
  // Every document carries the same twelve words inside a sentence that is otherwise its own.
  {
    JsonlWriter writer(folder / "in.jsonl");
    for (int i = 0; i < 1'000; ++i)
      writer.write({{"text", fmt::format("Own words of document {0} stand here and only here {0}. Then {0} one two "
                                         "three four five six seven eight "
                                         "nine ten eleven twelve and {0}.",
                                         i)}});
    writer.commit();
  }
  build_corpus(list(Json::array({source("made", folder / "in.jsonl")})), folder / "out", 3);
  JsonlReader reader(folder / "out" / "heldout.jsonl.zst");
  int documents = 0;
  while (const auto object = reader.next()) {
    ++documents;
    EXPECT_FALSE(contains(object->at("text").get<std::string>(), {"seven eight"}));
  }
  EXPECT_GT(documents, 0);
}

}  // namespace
}  // namespace sememe
