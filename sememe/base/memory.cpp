#include "sememe/base/memory.h"

#include <fstream>
#include <limits>
#include <string>

#include "sememe/base/error.h"

namespace sememe {

int64_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (int64_t kibibytes; file >> key >> kibibytes; std::getline(file, unit))
    if (key == "MemAvailable:") return kibibytes * 1024;
  return std::numeric_limits<int64_t>::max();
}

void require_memory(int64_t bytes, std::string_view what) {
  const int64_t available = available_memory();
  if (bytes > available)
    fail("{} needs {:.1f} GB of memory, and {:.1f} GB are free", what, static_cast<double>(bytes) / 1e9, static_cast<double>(available) / 1e9);
}

}  // namespace sememe
