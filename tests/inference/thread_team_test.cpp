#include "sememe/inference/thread_team.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

namespace sememe {
namespace {

TEST(ThreadTeam, EveryThreadSeesWhatTheOthersWroteBeforeAMeeting) {
  for (const int size : {1, 2, 3, 5}) {
    ThreadTeam team(size);
    std::vector<int64_t> written(size);
    std::vector<int> wrong(size, 0);
    for (int run = 0; run < 20; ++run) {
      team.run([&](int thread) {
        for (int64_t step = 1; step <= 50; ++step) {
          written[thread] = run * 1000 + step;
          team.meet();
          for (const int64_t value : written) wrong[thread] += value != run * 1000 + step;
          team.meet();
        }
      });
    }
    for (const int count : wrong) EXPECT_EQ(count, 0) << size << " threads";
  }
}

TEST(ThreadTeam, WorksAgainAfterItSlept) {
  ThreadTeam team(2);
  int runs[2] = {0, 0};
  for (int i = 0; i < 3; ++i) {
    team.run([&](int thread) { ++runs[thread]; });
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  EXPECT_EQ(runs[0], 3);
  EXPECT_EQ(runs[1], 3);
}

TEST(ThreadTeam, SharesCoverEverythingOnce) {
  for (const int64_t n : {0, 1, 5, 16, 17}) {
    for (const int64_t parts : {1, 2, 3, 7}) {
      int64_t next = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const Share share(n, part, parts);
        EXPECT_EQ(share.begin, next);
        next = share.end;
      }
      EXPECT_EQ(next, n);
    }
  }
}

}  // namespace
}  // namespace sememe
