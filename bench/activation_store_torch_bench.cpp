// Shuffled reading of an activation store against plain reading of the same bytes, in this process and from the same (cached) files.
//   activation_store_torch_bench FOLDER [rounds]
// FOLDER is made by `sememe capture`.

#include <fcntl.h>
#include <fmt/format.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <vector>

#include "sememe/base/error.h"
#include "sememe/base/threads.h"
#include "sememe/features/activation_store.h"

namespace {

using namespace sememe;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int64_t read_plainly(const std::filesystem::path& folder) {
  std::vector<char> block(1 << 20);
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const int file = open(entry.path().c_str(), O_RDONLY);
    for (ssize_t count; (count = read(file, block.data(), block.size())) > 0;) bytes += count;
    close(file);
  }
  return bytes;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) fail_usage("give the folder of a capture");
    const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 5;
    torch::set_num_threads(thread_count());
    const ActivationStore store = ActivationStore::open(argv[1]);
    std::vector<double> plain, shuffled;
    for (int round = -1; round < rounds; ++round) {
      const auto start = Clock::now();
      const auto bytes = static_cast<double>(read_plainly(argv[1]));
      const double plain_seconds = seconds_since(start);
      ShuffledActivations rows(store, 1, std::numeric_limits<float>::infinity());
      const auto second = Clock::now();
      for (int64_t row = 0; row < store.rows(); row += 4096) rows.next(std::min<int64_t>(4096, store.rows() - row));
      const double shuffled_seconds = seconds_since(second);
      if (round < 0) continue;
      plain.push_back(bytes / plain_seconds / 1e9);
      shuffled.push_back(bytes / shuffled_seconds / 1e9);
    }
    fmt::print("{} rows of width {}{}: read() of the files {:.2f} GB/s, shuffled rows as float32 {:.2f} GB/s, ratio {:.2f}\n", store.rows(),
               store.width(), store.has_gradients() ? " with gradients" : "", median(plain), median(shuffled),
               median(shuffled) / median(plain));
  } catch (const std::exception& error) {
    fmt::print(stderr, "activation_store_torch_bench: {}\n", error.what());
    return 1;
  }
}
