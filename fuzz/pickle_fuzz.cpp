// The input is the pickle itself, so that the fuzzer need not keep the CRC-32 of an archive right; the archive around it has two storages.
#include "sememe/formats/pickle.h"

#include <unistd.h>

#include "fuzz/parse_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sememe;
  // In memory, where waiting for the disk takes no time.
  static const std::filesystem::path path = "/dev/shm/pickle_fuzz-" + std::to_string(getpid()) + ".pt";
  const auto bytes = [](std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); };
  {
    ZipWriter archive(path);
    archive.add("archive/data.pkl", bytes({reinterpret_cast<const char*>(data), size}));
    archive.add("archive/data/0", bytes(std::string(64, 'a')));
    archive.add("archive/data/1", bytes(std::string(24, 'b')));
    archive.commit();
  }
  volatile uint64_t sum = 0;
  try {
    TorchCheckpoint file(path);
    for (const std::string& name : file.names())
      for (const std::byte byte : file.tensor(name).data) sum = sum + std::to_integer<uint64_t>(byte);
  } catch (const Error& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) std::abort();  // an error is one line
  }
  std::filesystem::remove(path);
  return 0;
}
