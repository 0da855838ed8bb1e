#include "sememe/base/random.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace sememe {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

uint64_t hash64(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001B3;
  hash ^= hash >> 33;
  hash *= 0xFF51AFD7ED558CCD;
  hash ^= hash >> 33;
  hash *= 0xC4CEB9FE1A85EC53;
  return hash ^ (hash >> 33);
}

RandomStream::RandomStream(uint64_t seed, std::string_view name)
    : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {
  const uint64_t hash = hash64(name);
  name_ = {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

uint64_t RandomStream::at(uint64_t counter) const {
  const uint64_t block = counter / 2;
  const auto bits = philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), name_[0], name_[1]}, key_);
  return counter % 2 == 0 ? bits[0] | static_cast<uint64_t>(bits[1]) << 32 : bits[2] | static_cast<uint64_t>(bits[3]) << 32;
}

double RandomStream::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double RandomStream::normal() {
  const double u = 1.0 - uniform();  // in (0, 1]: the logarithm stays finite
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * uniform());
}

uint64_t RandomStream::below(uint64_t bound) {
  const uint64_t threshold = -bound % bound;  // values under 2^64 mod bound would be drawn once too often
  for (;;) {
    const uint64_t bits = next();
    if (bits >= threshold) return bits % bound;
  }
}

std::vector<int64_t> permutation(int64_t n, RandomStream& stream) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[i], order[stream.below(i + 1)]);
  return order;
}

}  // namespace sememe
