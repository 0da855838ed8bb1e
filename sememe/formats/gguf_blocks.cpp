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
// most, 8 where there is no scale of a group) fits float32's 24 bits. Only the sum with a minimum rounds, so that a compiler that fuses
// the two changes nothing.

float from_bits(uint32_t bits) {
  return std::bit_cast<float>(bits);
}

/// Half precision: 1 bit sign, 5 bits exponent, 10 bits fraction. Every value has its float32.
float from_half(uint16_t half) {
  const uint32_t sign = uint32_t{half} >> 15 << 31;
  const uint32_t exponent = (half >> 10) & 31u, fraction = half & 1023u;
  if (exponent == 31) return from_bits(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign == 0 ? magnitude : -magnitude;
}

/// Blocks are not aligned in memory.
template <class T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

float load_half(const uint8_t* bytes) {
  return from_half(load<uint16_t>(bytes));
}

void dequantize_f32(const uint8_t* block, float* weights) {
  weights[0] = load<float>(block);
}

void dequantize_f16(const uint8_t* block, float* weights) {
  weights[0] = load_half(block);
}

/// The upper half of a float32.
void dequantize_bf16(const uint8_t* block, float* weights) {
  weights[0] = from_bits(uint32_t{load<uint16_t>(block)} << 16);
}

/// f16 d | 16 bytes qs: weight j in the low, weight j + 16 in the high four bits of qs[j]. w = d (q - 8).
void dequantize_q4_0(const uint8_t* block, float* weights) {
  const float d = load_half(block);
  const uint8_t* const qs = block + 2;
  for (int j = 0; j < 16; ++j) {
    weights[j] = d * static_cast<float>((qs[j] & 15) - 8);
    weights[j + 16] = d * static_cast<float>((qs[j] >> 4) - 8);
  }
}

/// f16 d | f16 m | 16 bytes qs as in Q4_0. w = d q + m.
void dequantize_q4_1(const uint8_t* block, float* weights) {
  const float d = load_half(block), m = load_half(block + 2);
  const uint8_t* const qs = block + 4;
  for (int j = 0; j < 16; ++j) {
    weights[j] = d * static_cast<float>(qs[j] & 15) + m;
    weights[j + 16] = d * static_cast<float>(qs[j] >> 4) + m;
  }
}

/// The five bits of weight j of Q5_0 and Q5_1: four as in Q4_0, the fifth is bit j of qh.
int five_bits(const uint8_t* qs, uint32_t qh, int j) {
  const int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
  return low | static_cast<int>(qh >> j & 1) << 4;
}

/// f16 d | u32 qh | 16 bytes qs. w = d (q - 16).
void dequantize_q5_0(const uint8_t* block, float* weights) {
  const float d = load_half(block);
  const auto qh = load<uint32_t>(block + 2);
  for (int j = 0; j < 32; ++j) weights[j] = d * static_cast<float>(five_bits(block + 6, qh, j) - 16);
}

/// f16 d | f16 m | u32 qh | 16 bytes qs. w = d q + m.
void dequantize_q5_1(const uint8_t* block, float* weights) {
  const float d = load_half(block), m = load_half(block + 2);
  const auto qh = load<uint32_t>(block + 4);
  for (int j = 0; j < 32; ++j) weights[j] = d * static_cast<float>(five_bits(block + 8, qh, j)) + m;
}

/// f16 d | 32 int8 q. w = d q.
void dequantize_q8_0(const uint8_t* block, float* weights) {
  const float d = load_half(block);
  for (int j = 0; j < 32; ++j) weights[j] = d * static_cast<float>(load<int8_t>(block + 2 + j));
}

/// 16 bytes scales | 64 bytes qs | f16 d | f16 dmin. Sixteen groups of 16 weights; scales[g] holds the group's scale s in its low, its
/// minimum m in its high four bits. Each half of the block has 32 bytes of qs; two bits of each byte, lowest first, are one weight of
/// each of the half's four runs of 32. w = (d s) q - (dmin m).
void dequantize_q2_k(const uint8_t* block, float* weights) {
  const uint8_t *const scales = block, *const qs = block + 16;
  const float d = load_half(block + 80), dmin = load_half(block + 82);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(scales[group] & 15);
    const float minimum = dmin * static_cast<float>(scales[group] >> 4);
    const int half = group / 8, shift = group % 8 / 2 * 2;
    const uint8_t* const bytes = qs + 32 * half + 16 * (group % 2);
    for (int j = 0; j < 16; ++j) weights[16 * group + j] = scale * static_cast<float>(bytes[j] >> shift & 3) - minimum;
  }
}

/// 32 bytes hmask | 64 bytes qs | 12 bytes scales | f16 d. Groups and qs as in Q2_K; the third bit of a weight is in hmask: bit r of
/// hmask[i] belongs to weight i of the r-th run of 32, and where it is 0 the weight is 4 less. The six bits of the scale of group g: four
/// in scales[g % 8], its low ones for g < 8 and its high ones after; two in scales[8 + g % 4] from bit 2 (g / 4) on; less 32. w = (d s) q.
void dequantize_q3_k(const uint8_t* block, float* weights) {
  const uint8_t *const hmask = block, *const qs = block + 32, *const scales = block + 96;
  const float d = load_half(block + 108);
  for (int group = 0; group < 16; ++group) {
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    const int half = group / 8, run = group / 2, shift = group % 8 / 2 * 2, first = 16 * (group % 2);
    for (int j = 0; j < 16; ++j) {
      const int low_bits = qs[32 * half + first + j] >> shift & 3;
      const int quantized = low_bits - ((hmask[first + j] >> run & 1) != 0 ? 0 : 4);
      weights[16 * group + j] = scale * static_cast<float>(quantized);
    }
  }
}

struct ScaleAndMinimum {
  int scale, minimum;
};

/// Six bits each for the eight groups of Q4_K and Q5_K, in 12 bytes: the first four groups' scales in the low six bits of bytes 0 to 3,
/// their minima in those of bytes 4 to 7. The last four have their low four bits in bytes 8 to 11 (scale low, minimum high) and their upper
/// two in the top bits of bytes 0 to 3 (scales) and 4 to 7 (minima).
ScaleAndMinimum scale_and_minimum(const uint8_t* bytes, int group) {
  if (group < 4) return {bytes[group] & 63, bytes[group + 4] & 63};
  return {(bytes[group + 4] & 15) | bytes[group - 4] >> 6 << 4, bytes[group + 4] >> 4 | bytes[group] >> 6 << 4};
}

/// f16 d | f16 dmin | 12 bytes scales | 128 bytes qs. Eight groups of 32 weights; two groups share 32 bytes of qs, the first has the low,
/// the second the high four bits. w = (d s) q - (dmin m).
void dequantize_q4_k(const uint8_t* block, float* weights) {
  const float d = load_half(block), dmin = load_half(block + 2);
  const uint8_t* const qs = block + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum packed = scale_and_minimum(block + 4, group);
    const float scale = d * static_cast<float>(packed.scale), minimum = dmin * static_cast<float>(packed.minimum);
    const uint8_t* const bytes = qs + 32 * (group / 2);
    for (int j = 0; j < 32; ++j)
      weights[32 * group + j] = scale * static_cast<float>(bytes[j] >> (4 * (group % 2)) & 15) - minimum;
  }
}

/// f16 d | f16 dmin | 12 bytes scales | 32 bytes qh | 128 bytes qs. As Q4_K; the fifth bit of weight j of group g is bit g of qh[j].
void dequantize_q5_k(const uint8_t* block, float* weights) {
  const float d = load_half(block), dmin = load_half(block + 2);
  const uint8_t *const qh = block + 16, *const qs = block + 48;
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum packed = scale_and_minimum(block + 4, group);
    const float scale = d * static_cast<float>(packed.scale), minimum = dmin * static_cast<float>(packed.minimum);
    const uint8_t* const bytes = qs + 32 * (group / 2);
    for (int j = 0; j < 32; ++j) {
      const int quantized = (bytes[j] >> (4 * (group % 2)) & 15) | (qh[j] >> group & 1) << 4;
      weights[32 * group + j] = scale * static_cast<float>(quantized) - minimum;
    }
  }
}

/// 128 bytes ql | 64 bytes qh | 16 int8 scales, one for 16 weights | f16 d. Each half of the block has 64 bytes of ql and 32 of qh, and
/// four runs of 32 weights: runs 0 and 1 have the low four bits of the first and second 32 bytes of ql, runs 2 and 3 the high ones; the
/// upper two bits of run r are those from bit 2 r of qh on. w = (d s) (q - 32).
void dequantize_q6_k(const uint8_t* block, float* weights) {
  const float d = load_half(block + 208);
  for (int run = 0; run < 8; ++run) {
    const int half = run / 4, place = run % 4;
    const uint8_t* const ql = block + 64 * half + 32 * (place % 2);
    const uint8_t* const qh = block + 128 + 32 * half;
    for (int j = 0; j < 32; ++j) {
      const float scale = d * static_cast<float>(load<int8_t>(block + 192 + 2 * run + j / 16));
      const int quantized = (ql[j] >> (4 * (place / 2)) & 15) | (qh[j] >> (2 * place) & 3) << 4;
      weights[32 * run + j] = scale * static_cast<float>(quantized - 32);
    }
  }
}

/// f32 d | 256 int8 q | 16 int16, the sums of each 16 q, which only products of blocks need. w = d q.
void dequantize_q8_k(const uint8_t* block, float* weights) {
  const auto d = load<float>(block);
  for (int j = 0; j < 256; ++j) weights[j] = d * static_cast<float>(load<int8_t>(block + 4 + j));
}

using DequantizeBlock = void (*)(const uint8_t* block, float* weights);

DequantizeBlock dequantize_block(GgmlType type) {
  switch (type) {
    case GgmlType::kF32: return dequantize_f32;
    case GgmlType::kF16: return dequantize_f16;
    case GgmlType::kBF16: return dequantize_bf16;
    case GgmlType::kQ4_0: return dequantize_q4_0;
    case GgmlType::kQ4_1: return dequantize_q4_1;
    case GgmlType::kQ5_0: return dequantize_q5_0;
    case GgmlType::kQ5_1: return dequantize_q5_1;
    case GgmlType::kQ8_0: return dequantize_q8_0;
    case GgmlType::kQ2_K: return dequantize_q2_k;
    case GgmlType::kQ3_K: return dequantize_q3_k;
    case GgmlType::kQ4_K: return dequantize_q4_k;
    case GgmlType::kQ5_K: return dequantize_q5_k;
    case GgmlType::kQ6_K: return dequantize_q6_k;
    case GgmlType::kQ8_K: return dequantize_q8_k;
  }
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
