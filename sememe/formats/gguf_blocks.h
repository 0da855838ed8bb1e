#pragma once
// How ggml stores weights: a row is a run of blocks, each of a fixed number of weights that share their scales. Scalar reference code,
// written to be read.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace sememe {

/// The types that can be read, by their numbers in files.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kBF16 = 30
};

struct BlockLayout {
  GgmlType type;
  std::string_view name;  ///< ggml's, e.g. "Q4_K"
  int64_t weights;        ///< in one block; a row's length is a multiple of it
  int64_t bytes;          ///< of one block

  double bits_per_weight() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights); }
};

const BlockLayout& block_layout(GgmlType type);

/// The type of that number in a file, if it is one of those that can be read.
std::optional<GgmlType> ggml_type_from_number(uint32_t number);

/// "IQ2_XS (17)"; the number alone where ggml has no such type. For messages.
std::string ggml_type_name(uint32_t number);

/// The names of the types that can be read, "F32, F16, ...".
std::string readable_ggml_types();

/// Half precision: 1 bit sign, 5 bits exponent, 10 bits fraction. Every value has its float32.
float widen_half(uint16_t half);

/// How a type whose weights are small whole numbers, codes, makes weights of them: w = scale_g (code - zero) + offset_g, where g is the
/// group of the weight. scale_g is the block's scale, times the group's where there are such; offset_g likewise, or 0.
struct BlockCodes {
  int bits;                   ///< of a code: 0 <= code < 2^bits
  int group = 32;             ///< weights in a group, 16 or 32
  int zero = 0;
  bool offsets = false;
  bool group_scales = false;  ///< then a block is 256 weights; else 32, one group
};

/// One block taken apart; what its type does not have is unspecified.
struct UnpackedBlock {
  uint16_t scale = 0, offset = 0;                ///< float16
  int8_t group_scales[16], group_offsets[16];
  uint8_t codes[256];
};

/// Nothing for the types without codes: F32, F16, BF16, and Q8_K, which only products use.
std::optional<BlockCodes> block_codes(GgmlType type);

/// @param block as many bytes as the type's blocks have, not aligned
/// @throws Error for a type without codes
void unpack_block(GgmlType type, const std::byte* block, UnpackedBlock& unpacked);

/// Fills `weights` with the values that the blocks stand for, in their order. Rounds as ggml does: the scale of a group first, then one
/// product and one sum a weight, all in float32.
/// @param blocks  whole blocks
/// @param weights as many as the blocks hold
/// @throws Error if the blocks are not whole or the number of weights is another
void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> weights);

}  // namespace sememe
