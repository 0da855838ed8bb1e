#pragma once
// Attention of a few new tokens over the keys and values of all before them, which are kept in float16.
//
// Keys lie in tiles of 16 tokens, [tiles, head_width, 16]: a vector is one component of 16 keys, so that no sum over lanes is needed.
// Values lie in order, [tokens, head_width]. head_width is padded with zeros to a multiple of 16.

#include <cstdint>

namespace sememe::kernels {

inline constexpr int64_t kKeyTile = 16;

/// Puts the key and the value [head_width] of token `token` where attend() looks for them.
/// @param keys, values float16, with room for whole tiles
void store_key_value(const float* key, const float* value, int64_t token, int64_t head_width, uint16_t* keys, uint16_t* values);

struct AttentionSpan {
  int64_t first, last;  ///< tokens first <= t < last are seen; at least one
  float softcap = 0.0f;  ///< scores become c tanh(score / c); 0 for none
};

/// out_q = sum_t softmax_t(query_q . key_t) value_t, for each of a few heads that share keys and values. (Vaswani et al. 2017, eq. 1; the
/// queries come already scaled.)
/// @param queries [count, head_width]
/// @param scores  scratch, [count, whole tiles of `last`]
/// @param out     [count, head_width]
void attend(const float* queries, int64_t count, const uint16_t* keys, const uint16_t* values, int64_t head_width, const AttentionSpan& span,
            float* scores, float* out);
void attend_reference(const float* queries, int64_t count, const uint16_t* keys, const uint16_t* values, int64_t head_width,
                      const AttentionSpan& span, float* scores, float* out);

}  // namespace sememe::kernels
