#include "sememe/formats/gguf_blocks.h"

#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "sememe/base/error.h"

namespace sememe {
namespace {

constexpr BlockLayout kLayouts[] = {
    {GgmlType::kF32, "F32", 1, 4},       {GgmlType::kF16, "F16", 1, 2},       {GgmlType::kBF16, "BF16", 1, 2},
    {GgmlType::kQ4_0, "Q4_0", 32, 18},   {GgmlType::kQ4_1, "Q4_1", 32, 20},   {GgmlType::kQ5_0, "Q5_0", 32, 22},
    {GgmlType::kQ5_1, "Q5_1", 32, 24},   {GgmlType::kQ8_0, "Q8_0", 32, 34},   {GgmlType::kQ2_K, "Q2_K", 256, 84},
    {GgmlType::kQ3_K, "Q3_K", 256, 110}, {GgmlType::kQ4_K, "Q4_K", 256, 144}, {GgmlType::kQ5_K, "Q5_K", 256, 176},
    {GgmlType::kQ6_K, "Q6_K", 256, 210}, {GgmlType::kQ8_K, "Q8_K", 256, 292},
};

/// Types of ggml that cannot be read, so that they can be refused by name.
constexpr std::pair<uint32_t, std::string_view> kOtherTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},       {16, "IQ2_XXS"},    {17, "IQ2_XS"},     {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {20, "IQ4_NL"},   {21, "IQ3_S"},    {22, "IQ2_S"},     {23, "IQ4_XS"},     {24, "I8"},         {25, "I16"},     {26, "I32"},
    {27, "I64"},      {28, "F64"},      {29, "IQ1_M"},     {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"}, {34, "TQ1_0"},
    {35, "TQ2_0"},    {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"}, {39, "MXFP4"},   {40, "NVFP4"},   {41, "Q1_0"},
};

// In what follows a product of a half-precision scale (11 bits), a scale of a group (8 bits at most) and a quantised weight (6 bits at
// most, 8 where there is no scale of a group) fits float32's 24 bits. Only the sum with an offset rounds, so that a compiler that fuses
// the two changes nothing.

float from_bits(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

/// Blocks are not aligned in memory.
template <class T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

/// 16 bytes qs: weight j in the low, weight j + 16 in the high four bits of qs[j].
void unpack_nibbles(const uint8_t* qs, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) codes[j] = qs[j] & 15, codes[j + 16] = qs[j] >> 4;
}

/// As unpack_nibbles; the fifth bit of weight j is bit j of qh.
void unpack_fives(const uint8_t* qs, uint32_t qh, uint8_t* codes) {
  unpack_nibbles(qs, codes);
  for (int j = 0; j < 32; ++j) codes[j] |= static_cast<uint8_t>((qh >> j & 1) << 4);
}

/// f16 d | 16 bytes qs. w = d (q - 8).
void unpack_q4_0(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block);
  unpack_nibbles(block + 2, unpacked.codes);
}

/// f16 d | f16 m | 16 bytes qs. w = d q + m.
void unpack_q4_1(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block), unpacked.offset = load<uint16_t>(block + 2);
  unpack_nibbles(block + 4, unpacked.codes);
}

/// f16 d | u32 qh | 16 bytes qs. w = d (q - 16).
void unpack_q5_0(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block);
  unpack_fives(block + 6, load<uint32_t>(block + 2), unpacked.codes);
}

/// f16 d | f16 m | u32 qh | 16 bytes qs. w = d q + m.
void unpack_q5_1(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block), unpacked.offset = load<uint16_t>(block + 2);
  unpack_fives(block + 8, load<uint32_t>(block + 4), unpacked.codes);
}

/// f16 d | 32 int8 q. w = d q.
void unpack_q8_0(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block);
  for (int j = 0; j < 32; ++j) unpacked.codes[j] = block[2 + j] ^ 0x80;
}

/// 16 bytes scales | 64 bytes qs | f16 d | f16 dmin. Sixteen groups of 16 weights; scales[g] holds the group's scale s in its low, its
/// minimum m in its high four bits. Each half of the block has 32 bytes of qs; two bits of each byte, lowest first, are one weight of
/// each of the half's four runs of 32. w = (d s) q - (dmin m).
void unpack_q2_k(const uint8_t* block, UnpackedBlock& unpacked) {
  const uint8_t *const scales = block, *const qs = block + 16;
  unpacked.scale = load<uint16_t>(block + 80), unpacked.offset = load<uint16_t>(block + 82);
  for (int group = 0; group < 16; ++group) {
    unpacked.group_scales[group] = static_cast<int8_t>(scales[group] & 15);
    unpacked.group_offsets[group] = static_cast<int8_t>(-(scales[group] >> 4));
    const int half = group / 8, shift = group % 8 / 2 * 2;
    const uint8_t* const bytes = qs + 32 * half + 16 * (group % 2);
    for (int j = 0; j < 16; ++j) unpacked.codes[16 * group + j] = bytes[j] >> shift & 3;
  }
}

/// 32 bytes hmask | 64 bytes qs | 12 bytes scales | f16 d. Groups and qs as in Q2_K; the third bit of a weight is in hmask: bit r of
/// hmask[i] belongs to weight i of the r-th run of 32. The six bits of the scale of group g: four in scales[g % 8], its low ones for g < 8
/// and its high ones after; two in scales[8 + g % 4] from bit 2 (g / 4) on; less 32. w = (d s) (q - 4).
void unpack_q3_k(const uint8_t* block, UnpackedBlock& unpacked) {
  const uint8_t *const hmask = block, *const qs = block + 32, *const scales = block + 96;
  unpacked.scale = load<uint16_t>(block + 108);
  for (int group = 0; group < 16; ++group) {
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
    unpacked.group_scales[group] = static_cast<int8_t>((low | high << 4) - 32);
    const int half = group / 8, run = group / 2, shift = group % 8 / 2 * 2, first = 16 * (group % 2);
    for (int j = 0; j < 16; ++j)
      unpacked.codes[16 * group + j] =
          static_cast<uint8_t>((qs[32 * half + first + j] >> shift & 3) | (hmask[first + j] >> run & 1) << 2);
  }
}

/// Of Q4_K and Q5_K: six bits each for the eight groups, in 12 bytes: the first four groups' scales in the low six bits of bytes 0 to 3,
/// their minima in those of bytes 4 to 7. The last four have their low four bits in bytes 8 to 11 (scale low, minimum high) and their upper
/// two in the top bits of bytes 0 to 3 (scales) and 4 to 7 (minima).
void unpack_scales_and_minima(const uint8_t* bytes, UnpackedBlock& unpacked) {
  for (int group = 0; group < 8; ++group) {
    int scale = bytes[group] & 63, minimum = bytes[group + 4] & 63;
    if (group >= 4) {
      scale = (bytes[group + 4] & 15) | bytes[group - 4] >> 6 << 4;
      minimum = bytes[group + 4] >> 4 | bytes[group] >> 6 << 4;
    }
    unpacked.group_scales[group] = static_cast<int8_t>(scale);
    unpacked.group_offsets[group] = static_cast<int8_t>(-minimum);
  }
}

/// f16 d | f16 dmin | 12 bytes scales | 128 bytes qs. Eight groups of 32 weights; two groups share 32 bytes of qs, the first has the low,
/// the second the high four bits. w = (d s) q - (dmin m).
void unpack_q4_k(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block), unpacked.offset = load<uint16_t>(block + 2);
  unpack_scales_and_minima(block + 4, unpacked);
  const uint8_t* const qs = block + 16;
  for (int group = 0; group < 8; ++group)
    for (int j = 0; j < 32; ++j) unpacked.codes[32 * group + j] = qs[32 * (group / 2) + j] >> (4 * (group % 2)) & 15;
}

/// f16 d | f16 dmin | 12 bytes scales | 32 bytes qh | 128 bytes qs. As Q4_K; the fifth bit of weight j of group g is bit g of qh[j].
void unpack_q5_k(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block), unpacked.offset = load<uint16_t>(block + 2);
  unpack_scales_and_minima(block + 4, unpacked);
  const uint8_t *const qh = block + 16, *const qs = block + 48;
  for (int group = 0; group < 8; ++group)
    for (int j = 0; j < 32; ++j)
      unpacked.codes[32 * group + j] =
          static_cast<uint8_t>((qs[32 * (group / 2) + j] >> (4 * (group % 2)) & 15) | (qh[j] >> group & 1) << 4);
}

/// 128 bytes ql | 64 bytes qh | 16 int8 scales, one for 16 weights | f16 d. Each half of the block has 64 bytes of ql and 32 of qh, and
/// four runs of 32 weights: runs 0 and 1 have the low four bits of the first and second 32 bytes of ql, runs 2 and 3 the high ones; the
/// upper two bits of run r are those from bit 2 r of qh on. w = (d s) (q - 32).
void unpack_q6_k(const uint8_t* block, UnpackedBlock& unpacked) {
  unpacked.scale = load<uint16_t>(block + 208);
  for (int group = 0; group < 16; ++group) unpacked.group_scales[group] = load<int8_t>(block + 192 + group);
  for (int run = 0; run < 8; ++run) {
    const int half = run / 4, place = run % 4;
    const uint8_t* const ql = block + 64 * half + 32 * (place % 2);
    const uint8_t* const qh = block + 128 + 32 * half;
    for (int j = 0; j < 32; ++j)
      unpacked.codes[32 * run + j] =
          static_cast<uint8_t>((ql[j] >> (4 * (place / 2)) & 15) | (qh[j] >> (2 * place) & 3) << 4);
  }
}

struct QuantizedType {
  GgmlType type;
  BlockCodes codes;
  void (*unpack)(const uint8_t* block, UnpackedBlock& unpacked);
};

constexpr QuantizedType kQuantizedTypes[] = {
    {GgmlType::kQ4_0, {.bits = 4, .zero = 8}, unpack_q4_0},
    {GgmlType::kQ4_1, {.bits = 4, .offsets = true}, unpack_q4_1},
    {GgmlType::kQ5_0, {.bits = 5, .zero = 16}, unpack_q5_0},
    {GgmlType::kQ5_1, {.bits = 5, .offsets = true}, unpack_q5_1},
    {GgmlType::kQ8_0, {.bits = 8, .zero = 128}, unpack_q8_0},
    {GgmlType::kQ2_K, {.bits = 2, .group = 16, .offsets = true, .group_scales = true}, unpack_q2_k},
    {GgmlType::kQ3_K, {.bits = 3, .group = 16, .zero = 4, .group_scales = true}, unpack_q3_k},
    {GgmlType::kQ4_K, {.bits = 4, .offsets = true, .group_scales = true}, unpack_q4_k},
    {GgmlType::kQ5_K, {.bits = 5, .offsets = true, .group_scales = true}, unpack_q5_k},
    {GgmlType::kQ6_K, {.bits = 6, .group = 16, .zero = 32, .group_scales = true}, unpack_q6_k},
};

const QuantizedType* find_quantized(GgmlType type) {
  for (const QuantizedType& known : kQuantizedTypes)
    if (known.type == type) return &known;
  return nullptr;
}

void dequantize_f32(const uint8_t* block, float* weights) {
  weights[0] = load<float>(block);
}

void dequantize_f16(const uint8_t* block, float* weights) {
  weights[0] = widen_half(load<uint16_t>(block));
}

/// The upper half of a float32.
void dequantize_bf16(const uint8_t* block, float* weights) {
  weights[0] = from_bits(uint32_t{load<uint16_t>(block)} << 16);
}

/// f32 d | 256 int8 q | 16 int16, the sums of each 16 q, which only products of blocks need. w = d q.
void dequantize_q8_k(const uint8_t* block, float* weights) {
  const auto d = load<float>(block);
  for (int j = 0; j < 256; ++j) weights[j] = d * static_cast<float>(load<int8_t>(block + 4 + j));
}

template <size_t kType>
void dequantize_quantized(const uint8_t* block, float* weights) {
  constexpr QuantizedType kKind = kQuantizedTypes[kType];
  UnpackedBlock unpacked;
  kKind.unpack(block, unpacked);
  const float scale = widen_half(unpacked.scale), offset = widen_half(unpacked.offset);
  const int count = kKind.codes.group_scales ? 256 : 32;
  for (int first = 0; first < count; first += kKind.codes.group) {
    const int group = first / kKind.codes.group;
    const float group_scale = kKind.codes.group_scales ? scale * static_cast<float>(unpacked.group_scales[group]) : scale;
    // ggml subtracts what is added here: so also a zero has its sign.
    const float group_offset = kKind.codes.group_scales ? -(offset * static_cast<float>(-unpacked.group_offsets[group])) : offset;
    for (int j = first; j < first + kKind.codes.group; ++j) {
      weights[j] = group_scale * static_cast<float>(unpacked.codes[j] - kKind.codes.zero);
      if (kKind.codes.offsets) weights[j] += group_offset;
    }
  }
}

using DequantizeBlock = void (*)(const uint8_t* block, float* weights);

template <size_t... kTypes>
DequantizeBlock dequantize_quantized_block(GgmlType type, std::index_sequence<kTypes...>) {
  DequantizeBlock found = nullptr;
  ((kQuantizedTypes[kTypes].type == type ? void(found = dequantize_quantized<kTypes>) : void()), ...);
  return found;
}

DequantizeBlock dequantize_block(GgmlType type) {
  if (type == GgmlType::kF32) return dequantize_f32;
  if (type == GgmlType::kF16) return dequantize_f16;
  if (type == GgmlType::kBF16) return dequantize_bf16;
  if (type == GgmlType::kQ8_K) return dequantize_q8_k;
  if (const auto quantized = dequantize_quantized_block(type, std::make_index_sequence<std::size(kQuantizedTypes)>())) return quantized;
  fail("ggml type {} has no layout", static_cast<uint32_t>(type));
}

}  // namespace

const BlockLayout& block_layout(GgmlType type) {
  for (const BlockLayout& layout : kLayouts)
    if (layout.type == type) return layout;
  fail("ggml type {} has no layout", static_cast<uint32_t>(type));
}

std::optional<GgmlType> ggml_type_from_number(uint32_t number) {
  for (const BlockLayout& layout : kLayouts)
    if (static_cast<uint32_t>(layout.type) == number) return layout.type;
  return std::nullopt;
}

std::string ggml_type_name(uint32_t number) {
  if (const std::optional<GgmlType> type = ggml_type_from_number(number)) return fmt::format("{} ({})", block_layout(*type).name, number);
  for (const auto& [other, name] : kOtherTypes)
    if (other == number) return fmt::format("{} ({})", name, number);
  return fmt::format("{}", number);
}

std::string readable_ggml_types() {
  std::string names;
  for (const BlockLayout& layout : kLayouts) names += fmt::format("{}{}", names.empty() ? "" : ", ", layout.name);
  return names;
}

float widen_half(uint16_t half) {
  const uint32_t sign = uint32_t{half} >> 15 << 31;
  const uint32_t exponent = (half >> 10) & 31u, fraction = half & 1023u;
  if (exponent == 31) return from_bits(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign == 0 ? magnitude : -magnitude;
}

std::optional<BlockCodes> block_codes(GgmlType type) {
  const QuantizedType* const found = find_quantized(type);
  return found ? std::optional(found->codes) : std::nullopt;
}

void unpack_block(GgmlType type, const std::byte* block, UnpackedBlock& unpacked) {
  const QuantizedType* const found = find_quantized(type);
  if (found == nullptr) fail("blocks of type {} hold no codes", block_layout(type).name);
  found->unpack(reinterpret_cast<const uint8_t*>(block), unpacked);
}

void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> weights) {
  const BlockLayout& layout = block_layout(type);
  const auto block_bytes = static_cast<size_t>(layout.bytes), block_weights = static_cast<size_t>(layout.weights);
  if (blocks.size() % block_bytes != 0)
    fail("{} bytes are no whole number of blocks of type {}, which have {} each", blocks.size(), layout.name, layout.bytes);
  const size_t count = blocks.size() / block_bytes;
  if (weights.size() != count * block_weights)
    fail("{} blocks of type {} hold {} weights, but there is place for {}", count, layout.name, count * block_weights, weights.size());
  const DequantizeBlock one = dequantize_block(type);
  const auto* const bytes = reinterpret_cast<const uint8_t*>(blocks.data());
  for (size_t block = 0; block < count; ++block) one(bytes + block * block_bytes, weights.data() + block * block_weights);
}

}  // namespace sememe
