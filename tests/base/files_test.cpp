#include "sememe/base/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>
#include <iterator>

#include "sememe/base/error.h"

namespace sememe {
namespace {

namespace fs = std::filesystem;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "sememe-files-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  int64_t entries() const { return std::distance(fs::directory_iterator(folder_), fs::directory_iterator()); }
  fs::path folder_;
};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST_F(Files, NoFileStandsUnderItsNameBeforeCommit) {
  AtomicFile file(folder_ / "new");
  file.write("text");
  EXPECT_FALSE(fs::exists(folder_ / "new"));
  file.commit();
  EXPECT_EQ(read_file(folder_ / "new"), "text");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, TheOldFileStaysIfTheNewOneIsNotCommitted) {
  write_file(folder_ / "kept", "old");
  { AtomicFile(folder_ / "kept").write("half"); }
  EXPECT_EQ(read_file(folder_ / "kept"), "old");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, HeadersAreOverwrittenButNeverPastTheEnd) {
  AtomicFile file(folder_ / "header");
  file.write("0000body");
  const auto two = std::as_bytes(std::span("12", 2));
  file.write_at(1, two);
  EXPECT_THROW(file.write_at(7, two), Error);
  EXPECT_THROW(file.write_at(~uint64_t{0}, two), Error);
  file.commit();
  EXPECT_EQ(read_file(folder_ / "header"), "0120body");
}

TEST_F(Files, WritingIntoAMissingFolderNamesThePath) {
  const fs::path path = folder_ / "missing" / "file";
  EXPECT_NE(message_of([&] { AtomicFile file(path); }).find(path.string()), std::string::npos);
}

TEST_F(Files, AFullDiskNamesThePathAndLeavesNothing) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of([&] { write_file(folder_ / "big", std::string(10000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find((folder_ / "big").string()), std::string::npos) << message;
  EXPECT_EQ(entries(), 0);
}

TEST_F(Files, AFolderTakesThePlaceOfTheOldOneWhole) {
  fs::create_directory(folder_ / "bundle");
  write_file(folder_ / "bundle" / "old", "1");
  AtomicFolder next(folder_ / "bundle", "old");
  write_file(next.path() / "new", "2");
  EXPECT_TRUE(fs::exists(folder_ / "bundle" / "old"));
  next.commit();
  EXPECT_FALSE(fs::exists(folder_ / "bundle" / "old"));
  EXPECT_EQ(read_file(folder_ / "bundle" / "new"), "2");
  EXPECT_EQ(entries(), 1);
}

TEST_F(Files, AFolderOfAnotherKindIsNeverReplaced) {
  fs::create_directory(folder_ / "home");
  EXPECT_NO_THROW(check_output_folder(folder_ / "home", "mark"));  // empty
  write_file(folder_ / "home" / "letters", "1");
  EXPECT_THROW(AtomicFolder(folder_ / "home", "mark"), Error);
  EXPECT_THROW(AtomicFolder(folder_ / "home/", "mark"), Error);
  EXPECT_EQ(read_file(folder_ / "home" / "letters"), "1");
  write_file(folder_ / "home" / "mark", "");
  EXPECT_NO_THROW(check_output_folder(folder_ / "home", "mark"));
}

TEST_F(Files, AnUncommittedFolderLeavesNothing) {
  { write_file(AtomicFolder(folder_ / "bundle", "file").path() / "file", "1"); }
  EXPECT_EQ(entries(), 0);
}

TEST_F(Files, ReadingNamesWhatIsMissingTooLongOrAFolder) {
  write_file(folder_ / "ten", "0123456789");
  EXPECT_THROW(read_file(folder_ / "ten", 9), Error);
  EXPECT_EQ(read_file(folder_ / "ten", 10).size(), 10u);
  EXPECT_THROW(read_file(folder_ / "none"), Error);
  EXPECT_THROW(read_file(folder_), Error);
  EXPECT_THROW(MappedFile{folder_}, Error);
}

TEST_F(Files, AnEmptyFileIsMappedAsNoBytes) {
  write_file(folder_ / "empty", "");
  EXPECT_TRUE(MappedFile(folder_ / "empty").bytes().empty());
}

}  // namespace
}  // namespace sememe
