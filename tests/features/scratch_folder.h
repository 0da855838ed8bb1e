#pragma once
// What the tests of this room share: a folder of its own for each test, removed after it.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "sememe/base/files.h"
#include "sememe/base/progress.h"
#include "tests/formats/error_text.h"

namespace sememe {

class ScratchFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    set_quiet(true);
    const ::testing::TestInfo& test = *::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = fmt::format("features_test-{}-{}-{}", getpid(), test.test_suite_name(), test.name());
    std::replace(name.begin(), name.end(), '/', '-');  // of a test with parameters
    folder_ = std::filesystem::temp_directory_path() / name;
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

}  // namespace sememe
