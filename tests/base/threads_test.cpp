#include "sememe/base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "sememe/base/error.h"

namespace sememe {
namespace {

class Threads : public testing::Test {
 protected:
  void SetUp() override { set_thread_count(4); }
  void TearDown() override { set_thread_count(before_); }
  int before_ = thread_count();
};

TEST_F(Threads, CoverEachIndexOnce) {
  for (const int64_t n : {0, 1, 2, 7, 100, 10007}) {
    std::vector<std::atomic<int>> visits(n);
    parallel_for(n, 3, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) ++visits[i];
    });
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(visits[i], 1) << i << " of " << n;
  }
}

TEST_F(Threads, AnExceptionComesOutAndThePoolWorksOn) {
  for (int round = 0; round < 20; ++round) {
    EXPECT_THROW(parallel_for(1000, 1, [](int64_t, int64_t) { throw std::runtime_error("body"); }), std::runtime_error);
    std::atomic<int64_t> sum = 0;
    parallel_for(1000, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    EXPECT_EQ(sum, 1000);
  }
}

TEST_F(Threads, LoopsInsideLoopsFinish) {
  std::atomic<int64_t> sum = 0;
  parallel_for(64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      parallel_for(10, 1, [&](int64_t first, int64_t last) { sum += last - first; });
  });
  EXPECT_EQ(sum, 640);
}

TEST_F(Threads, AnImpossibleNumberIsAUsageError) {
  EXPECT_THROW(set_thread_count(0), UsageError);
  EXPECT_THROW(set_thread_count(1025), UsageError);
  EXPECT_EQ(thread_count(), 4);
}

}  // namespace
}  // namespace sememe
