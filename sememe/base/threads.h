#pragma once
// The number of threads the whole process works with, and the one pool that loops outside LibTorch run on.

#include <cstdint>
#include <functional>

namespace sememe {

/// Number of worker threads: the cores that the process may run on, unless set_thread_count() was called.
int thread_count();

/// Sets the number for the pool; called once, by the program, before any work (which also tells LibTorch).
/// @throws UsageError unless 1 <= count <= 1024
void set_thread_count(int count);

/// Calls `body(begin, end)` on disjoint ranges that cover [0, n), in parts of about `grain`, and returns when all are done.
/// The first exception is rethrown here. Runs on the calling thread when n <= grain or when called from inside the pool.
void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

}  // namespace sememe
