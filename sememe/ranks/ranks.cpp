#include "sememe/ranks/ranks.h"

#include <sched.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/interrupt.h"

#ifdef SEMEME_WITH_MPI
#include <mpi.h>
#endif

namespace sememe {
namespace {

// Read by a signal handler, so plain memory.
constexpr size_t kLongestFarewell = 512;
char farewell[kLongestFarewell] = "sememe: another rank has ended, and the run with it\n";

/// Whether mpirun started this process.
bool started_by_mpirun() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMIX_RANK") != nullptr;
}

#ifdef SEMEME_WITH_MPI

bool bound_to_cores() {
  cpu_set_t cores;
  return sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) < sysconf(_SC_NPROCESSORS_ONLN);
}

bool running = false;
volatile std::sig_atomic_t exchanges_begun = 0, inside_exchange = 0;
Ranks::Spent total;

constexpr int kLargestPart = 1 << 24;  // entries of one call; MPI counts in int

/// What a rank is told when another has ended is SIGTERM, from mpirun. One that is between exchanges saves and stops like any interrupted
/// run; one that waits for a rank that is gone would wait for ever, so half a second later it says so and ends.
volatile std::sig_atomic_t exchange_at_signal = 0;

void end_if_still_waiting(int) {
  if (inside_exchange == 0 || exchanges_begun != exchange_at_signal) return;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, farewell, std::strlen(farewell));
  _exit(1);
}

void on_termination(int) {
  note_interrupt();
  exchange_at_signal = exchanges_begun;
  itimerval soon{};
  soon.it_value.tv_usec = 500'000;
  setitimer(ITIMER_REAL, &soon, nullptr);
}

void start() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) fail("MPI: could not start");
  running = true;
  std::signal(SIGALRM, end_if_still_waiting);
  std::signal(SIGTERM, on_termination);
}

class Exchange {
 public:
  explicit Exchange(int64_t bytes) : begun_(std::chrono::steady_clock::now()) {
    exchanges_begun = exchanges_begun + 1;
    inside_exchange = 1;
    total.bytes += bytes;
    ++total.exchanges;
  }
  ~Exchange() {
    inside_exchange = 0;
    total.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

 private:
  std::chrono::steady_clock::time_point begun_;
};

void check(int result, const char* what) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(result, text, &length);
  fail("MPI: {} failed: {}", what, std::string(text, length));
}

template <class Number>
void reduce(MPI_Comm communicator, std::span<Number> values, MPI_Datatype type, MPI_Op operation) {
  const Exchange exchange(static_cast<int64_t>(values.size_bytes()));
  for (size_t begin = 0; begin < values.size(); begin += kLargestPart) {
    const int count = static_cast<int>(std::min<size_t>(kLargestPart, values.size() - begin));
    check(MPI_Allreduce(MPI_IN_PLACE, values.data() + begin, count, type, operation, communicator), "a sum over ranks");
  }
}

/// Merges rows of keys, each in descending order.
void merge_keys(void* given, void* kept, int* rows, MPI_Datatype* type) {
  int bytes = 0;
  MPI_Type_size(*type, &bytes);
  const int64_t k = bytes / static_cast<int64_t>(sizeof(uint64_t));
  std::vector<uint64_t> merged(k);
  for (int64_t row = 0; row < *rows; ++row) {
    const uint64_t* a = static_cast<const uint64_t*>(given) + row * k;
    uint64_t* const result = static_cast<uint64_t*>(kept) + row * k;
    const uint64_t* b = result;
    for (uint64_t& key : merged) key = *a > *b ? *a++ : *b++;  // k steps never pass either end
    std::copy(merged.begin(), merged.end(), result);
  }
}

MPI_Op merging() {
  static const MPI_Op operation = [] {
    MPI_Op made;
    check(MPI_Op_create(merge_keys, 1, &made), "an operation");
    return made;
  }();
  return operation;
}

#endif  // SEMEME_WITH_MPI

}  // namespace

#ifdef SEMEME_WITH_MPI

struct Ranks::Communicator {
  explicit Communicator(MPI_Comm given) : handle(given) {}
  ~Communicator() {
    if (running && handle != MPI_COMM_WORLD) MPI_Comm_free(&handle);
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  MPI_Comm handle;
};

const Ranks& Ranks::of_run() {
  static const Ranks all = [] {
    Ranks ranks;
    if (!started_by_mpirun()) return ranks;
    start();
    MPI_Comm_rank(MPI_COMM_WORLD, &ranks.rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks.size_);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (ranks.size_ > 1) ranks.communicator_ = std::make_shared<Communicator>(MPI_COMM_WORLD);
    const char* const neighbours = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (neighbours != nullptr && !bound_to_cores()) ranks.on_this_machine_ = std::max(1, std::atoi(neighbours));
    return ranks;
  }();
  return all;
}

Ranks Ranks::group(int colour) const {
  if (alone()) return *this;
  MPI_Comm part;
  check(MPI_Comm_split(communicator_->handle, colour, rank_, &part), "a group of ranks");
  Ranks ranks;
  MPI_Comm_rank(part, &ranks.rank_);
  MPI_Comm_size(part, &ranks.size_);
  auto owner = std::make_shared<Communicator>(part);
  if (ranks.size_ > 1) ranks.communicator_ = std::move(owner);
  return ranks;
}

void Ranks::sum(std::span<float> values) const {
  if (!alone()) reduce(communicator_->handle, values, MPI_FLOAT, MPI_SUM);
}
void Ranks::sum(std::span<double> values) const {
  if (!alone()) reduce(communicator_->handle, values, MPI_DOUBLE, MPI_SUM);
}
void Ranks::sum(std::span<int64_t> values) const {
  if (!alone()) reduce(communicator_->handle, values, MPI_INT64_T, MPI_SUM);
}
void Ranks::largest(std::span<int64_t> values) const {
  if (!alone()) reduce(communicator_->handle, values, MPI_INT64_T, MPI_MAX);
}

void Ranks::largest_keys(std::span<uint64_t> keys, int64_t k) const {
  if (alone() || keys.empty()) return;
  const Exchange exchange(static_cast<int64_t>(keys.size_bytes()));
  MPI_Datatype row;
  check(MPI_Type_contiguous(static_cast<int>(k), MPI_UINT64_T, &row), "a row of keys");
  MPI_Type_commit(&row);
  const int result = MPI_Allreduce(MPI_IN_PLACE, keys.data(), static_cast<int>(static_cast<int64_t>(keys.size()) / k), row, merging(),
                                   communicator_->handle);
  MPI_Type_free(&row);
  check(result, "the choice of codes");
}

void Ranks::copy_from_first(std::span<double> values) const {
  if (alone()) return;
  const Exchange exchange(static_cast<int64_t>(values.size_bytes()));
  check(MPI_Bcast(values.data(), static_cast<int>(values.size()), MPI_DOUBLE, 0, communicator_->handle), "a copy");
}

void Ranks::send_to_first(std::span<const std::byte> own) const {
  const Exchange exchange(0);
  auto size = static_cast<uint64_t>(own.size());
  check(MPI_Send(&size, 1, MPI_UINT64_T, 0, 0, communicator_->handle), "sending");
  for (size_t begin = 0; begin < own.size(); begin += kLargestPart)
    check(MPI_Send(own.data() + begin, static_cast<int>(std::min<size_t>(kLargestPart, own.size() - begin)), MPI_BYTE, 0, 1,
                   communicator_->handle),
          "sending");
}

std::unique_ptr<Ranks::Block> Ranks::receive_from(int rank) const {
  const Exchange exchange(0);
  uint64_t size = 0;
  check(MPI_Recv(&size, 1, MPI_UINT64_T, rank, 0, communicator_->handle, MPI_STATUS_IGNORE), "receiving");
  auto block = std::make_unique<Block>(Block{std::make_unique_for_overwrite<std::byte[]>(size), size});
  for (size_t begin = 0; begin < size; begin += kLargestPart)
    check(MPI_Recv(block->bytes.get() + begin, static_cast<int>(std::min<size_t>(kLargestPart, size - begin)), MPI_BYTE, rank, 1,
                   communicator_->handle, MPI_STATUS_IGNORE),
          "receiving");
  return block;
}

void Ranks::meet() const {
  if (alone()) return;
  const Exchange exchange(0);
  check(MPI_Barrier(communicator_->handle), "a meeting of ranks");
}

Ranks::Spent Ranks::spent() { return total; }

int leave_ranks(int status) {
  if (!running) return status;
  if (status != 0) MPI_Abort(MPI_COMM_WORLD, status);
  running = false;
  MPI_Finalize();
  return status;
}

#else

struct Ranks::Communicator {};

const Ranks& Ranks::of_run() {
  static const Ranks all = [] {
    if (started_by_mpirun()) fail("mpirun: this program was built without MPI; install libopenmpi-dev and build anew");
    return Ranks();
  }();
  return all;
}

Ranks Ranks::group(int) const { return *this; }
void Ranks::sum(std::span<float>) const {}
void Ranks::sum(std::span<double>) const {}
void Ranks::sum(std::span<int64_t>) const {}
void Ranks::largest(std::span<int64_t>) const {}
void Ranks::largest_keys(std::span<uint64_t>, int64_t) const {}
void Ranks::copy_from_first(std::span<double>) const {}
void Ranks::send_to_first(std::span<const std::byte>) const {}
std::unique_ptr<Ranks::Block> Ranks::receive_from(int) const { return nullptr; }
void Ranks::meet() const {}
Ranks::Spent Ranks::spent() { return {}; }
int leave_ranks(int status) { return status; }

#endif  // SEMEME_WITH_MPI

void set_farewell(const std::string& line) {
  const size_t size = std::min(line.size(), kLongestFarewell - 12);
  char text[kLongestFarewell] = "sememe: ";
  std::memcpy(text + 8, line.data(), size);
  text[8 + size] = '\n';
  std::memcpy(farewell, text, kLongestFarewell);
}

}  // namespace sememe
