#include "sememe/inference/thread_team.h"

#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sememe {
namespace {

// Two thousand pauses are some tens of microseconds: longer than any step of a small model where each thread has its core, and short where
// one waits for a core that another holds.
constexpr int kSpins = 2000;
// A team that has nothing to do for longer than this sleeps.
constexpr int kIdleSpins = 20000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadTeam::ThreadTeam(int size) : size_(size) {
  for (int thread = 1; thread < size_; ++thread) threads_.emplace_back([this, thread] { serve(thread); });
}

ThreadTeam::~ThreadTeam() {
  stop_ = true;
  runs_.fetch_add(1);
  runs_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadTeam::run(const std::function<void(int)>& body) {
  if (size_ == 1) return body(0);
  body_ = &body;
  runs_.fetch_add(1, std::memory_order_release);
  runs_.notify_all();
  body(0);
  meet();  // the others have left the body, though they may still be on their way out of serve()'s loop
}

void ThreadTeam::meet() {
  if (size_ == 1) return;
  const int64_t meeting = meetings_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    meetings_.store(meeting + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; meetings_.load(std::memory_order_acquire) == meeting; ++spins) {
    pause();
    if (spins >= kSpins) sched_yield();
  }
}

void ThreadTeam::serve(int thread) {
  for (int64_t seen = 0;; ++seen) {
    for (int spins = 0; runs_.load(std::memory_order_acquire) == seen; ++spins) {
      pause();
      if (spins >= kIdleSpins) runs_.wait(seen, std::memory_order_acquire);
    }
    if (stop_) return;
    (*body_)(thread);
    meet();
  }
}

}  // namespace sememe
