#include "sememe/inference/token_cache.h"

#include <algorithm>
#include <cstring>

#include "sememe/kernels/cached_attention.h"

namespace sememe {
namespace {

int64_t rounded_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

}  // namespace

TokenCache::TokenCache(const TransformerConfig& config)
    : heads_(config.key_value_heads), head_width_(rounded_up(config.head_width, 16)), data_(config.layers) {}

void TokenCache::reserve(int64_t tokens) {
  if (tokens <= room_) return;
  const int64_t room = rounded_up(std::max(tokens, room_ + room_ / 2), 4 * kernels::kKeyTile);
  const int64_t kept = std::min(rounded_up(tokens_, kernels::kKeyTile), room_) * head_width_;
  for (std::vector<uint16_t>& layer : data_) {
    std::vector<uint16_t> larger(2 * heads_ * room * head_width_);
    for (int64_t i = 0; kept > 0 && i < 2 * heads_; ++i)
      std::memcpy(larger.data() + i * room * head_width_, layer.data() + i * room_ * head_width_, kept * sizeof(uint16_t));
    layer = std::move(larger);
  }
  room_ = room;
}

}  // namespace sememe
