#pragma once
// Threads that go through many short steps together. Decoding a token is a few hundred products of some microseconds each, too short for
// threads that sleep and wake between them: these spin, and give their core away only when others are late.

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace sememe {

class ThreadTeam {
 public:
  /// @param size threads that work, the caller's included; at least 1
  explicit ThreadTeam(int size);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }
  /// Calls body(0) here and body(1) to body(size - 1) on the other threads, and returns when all have. `body` must not throw. One call at a time.
  void run(const std::function<void(int thread)>& body);
  /// Inside run(): returns when every thread has called it as often as this one. What they wrote before is seen after.
  void meet();

 private:
  void serve(int thread);

  const int size_;
  const std::function<void(int)>* body_ = nullptr;
  alignas(64) std::atomic<int64_t> runs_ = 0;
  alignas(64) std::atomic<int> arrived_ = 0;
  alignas(64) std::atomic<int64_t> meetings_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

/// Part `part` of `parts` equal parts of [0, n).
struct Share {
  Share(int64_t n, int64_t part, int64_t parts) : begin(n * part / parts), end(n * (part + 1) / parts) {}
  int64_t begin, end;
};

}  // namespace sememe
