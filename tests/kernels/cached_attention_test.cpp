#include "sememe/kernels/cached_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "sememe/base/random.h"
#include "tests/kernels/every_target.h"

namespace sememe::kernels {
namespace {

struct Cache {
  Cache(int64_t tokens, int64_t head_width, float scale) {
    const int64_t room = (tokens + kKeyTile - 1) / kKeyTile * kKeyTile;
    keys.resize(room * head_width, 0x7E00), values.resize(room * head_width, 0x7E00);  // NaN: what is not stored must not be seen
    RandomStream stream(1, "cache");
    std::vector<float> key(head_width), value(head_width);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < head_width; ++i) key[i] = scale * static_cast<float>(stream.normal()), value[i] = static_cast<float>(stream.normal());
      store_key_value(key.data(), value.data(), t, head_width, keys.data(), values.data());
    }
  }
  std::vector<uint16_t> keys, values;
};

TEST(CachedAttention, IsThatOfTheReferenceOnEveryTarget) {
  RandomStream stream(1, "queries");
  for (const int64_t head_width : {16, 48, 64, 128}) {
    for (const int64_t tokens : {1, 2, 15, 16, 17, 40, 100}) {
      const Cache cache(tokens, head_width, 1.0f);
      for (const int64_t first : {int64_t{0}, tokens / 2, tokens - 1}) {
        for (const float softcap : {0.0f, 2.0f}) {
          for (const int64_t count : {1, 2, 3, 4, 7}) {
            std::vector<float> queries(count * head_width), wanted(queries.size()), found(queries.size()), scores(count * (tokens + kKeyTile));
            for (float& value : queries) value = static_cast<float>(stream.normal()) / 3;
            const AttentionSpan span{first, tokens, softcap};
            attend_reference(queries.data(), count, cache.keys.data(), cache.values.data(), head_width, span, scores.data(), wanted.data());
            on_every_target([&] {
              attend(queries.data(), count, cache.keys.data(), cache.values.data(), head_width, span, scores.data(), found.data());
              for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], wanted[i], 2e-5) << tokens << " tokens, from " << first;
            });
          }
        }
      }
    }
  }
}

TEST(CachedAttention, ScoresFarApartGiveAllTheWeightToTheLargest) {
  const int64_t head_width = 16, tokens = 20;
  const Cache cache(tokens, head_width, 300.0f);
  std::vector<float> query(head_width, 1.0f), wanted(head_width), found(head_width), scores(tokens + kKeyTile);
  attend_reference(query.data(), 1, cache.keys.data(), cache.values.data(), head_width, {0, tokens}, scores.data(), wanted.data());
  on_every_target([&] {
    attend(query.data(), 1, cache.keys.data(), cache.values.data(), head_width, {0, tokens}, scores.data(), found.data());
    for (int64_t i = 0; i < head_width; ++i) EXPECT_NEAR(found[i], wanted[i], 1e-4);
  });
}

}  // namespace
}  // namespace sememe::kernels
