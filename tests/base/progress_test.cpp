#include "sememe/base/progress.h"

#include <gtest/gtest.h>

#include <thread>

namespace sememe {
namespace {

TEST(Progress, TheRateDoesNotCountAResumedPart) {
  set_quiet(true);
  Progress progress("train", 2000, "steps", 1000);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  progress.update(1010);
  EXPECT_GT(progress.rate(), 0);
  EXPECT_LE(progress.rate(), 10 / 0.02);
  set_quiet(false);
}

}  // namespace
}  // namespace sememe
