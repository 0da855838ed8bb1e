#include "sememe/base/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "sememe/base/error.h"

namespace sememe {
namespace {

thread_local bool inside_pool = false;

struct Loop {
  int64_t n = 0, part = 1;
  const std::function<void(int64_t, int64_t)>* body = nullptr;
  std::atomic<int64_t> next = 0;
  std::exception_ptr error;
  std::mutex error_mutex;

  void work() {
    for (;;) {
      const int64_t begin = next.fetch_add(part);
      if (begin >= n) return;
      try {
        (*body)(begin, std::min(begin + part, n));
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
        next = n;
      }
    }
  }
};

class Pool {
 public:
  explicit Pool(int workers) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { serve(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void run(Loop& loop) {
    const std::lock_guard one_loop(run_mutex_);
    {
      const std::lock_guard lock(mutex_);
      loop_ = &loop;
      ++generation_;
      busy_ = static_cast<int>(threads_.size());
    }
    wake_.notify_all();
    inside_pool = true;
    loop.work();
    inside_pool = false;
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

  int workers() const { return static_cast<int>(threads_.size()); }

 private:
  void serve() {
    inside_pool = true;
    int64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      Loop* const loop = loop_;
      lock.unlock();
      loop->work();
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_, run_mutex_;
  std::condition_variable wake_, done_;
  Loop* loop_ = nullptr;
  int64_t generation_ = 0;
  int busy_ = 0;
  bool stop_ = false;
};

std::mutex pool_mutex;
std::unique_ptr<Pool> pool;
std::atomic<int> wanted = 0;

Pool& the_pool() {
  const std::lock_guard lock(pool_mutex);
  if (!pool || pool->workers() != thread_count() - 1) pool = std::make_unique<Pool>(thread_count() - 1);
  return *pool;
}

}  // namespace

int thread_count() {
  if (wanted > 0) return wanted;
  cpu_set_t cores;  // of which taskset, a container or mpirun may leave the process only some
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) return std::max(1, CPU_COUNT(&cores));
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

void set_thread_count(int count) {
  if (count < 1 || count > 1024) fail_usage("--threads {}: give a number from 1 to 1024", count);
  wanted = count;
}

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  if (n <= grain || inside_pool || thread_count() == 1) return body(0, n);
  Loop loop;
  loop.n = n;
  // A few parts per thread even out uneven work; never smaller than the grain.
  loop.part = std::max(grain, (n + 4 * thread_count() - 1) / (4 * thread_count()));
  loop.body = &body;
  the_pool().run(loop);
  if (loop.error) std::rethrow_exception(loop.error);
}

}  // namespace sememe
