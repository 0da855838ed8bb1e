#pragma once
// Counter-based random numbers in named streams: the value at (seed, name, counter) is fixed, so a new draw somewhere
// changes nothing elsewhere, and a resumed run needs only its counter. Philox 4x32-10 (Salmon et al. 2011).

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sememe {

/// The 128-bit block of Philox 4x32-10 at `counter` under `key`.
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

class RandomStream {
 public:
  /// Streams of different names (or seeds) are independent; `name` says what is drawn, e.g. "batches" or "init/W_enc".
  RandomStream(uint64_t seed, std::string_view name);

  /// The 64 random bits at `counter`, without moving the stream.
  uint64_t at(uint64_t counter) const;

  uint64_t next() { return at(position_++); }
  /// Uniform in [0, 1).
  double uniform();
  /// Standard normal (Box-Muller; draws two numbers each time).
  double normal();
  /// Uniform in [0, bound), without modulo bias. `bound` > 0.
  uint64_t below(uint64_t bound);

  uint64_t position() const { return position_; }
  void seek(uint64_t position) { position_ = position; }

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 2> name_;
  uint64_t position_ = 0;
};

/// A uniformly random permutation of 0 .. n-1 (Fisher-Yates).
std::vector<int64_t> permutation(int64_t n, RandomStream& stream);

/// 64-bit FNV-1a of the bytes, finished by a mixing step: stable over runs and machines, for names and splits, not for security.
uint64_t hash64(std::string_view bytes);

}  // namespace sememe
