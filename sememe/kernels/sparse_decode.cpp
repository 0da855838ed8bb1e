#include "sememe/kernels/sparse_decode.h"

#include <algorithm>

#include "sememe/base/threads.h"
#include "sememe/kernels/weighted_rows.h"

namespace sememe::kernels {
namespace {

constexpr int64_t kRowsPerPart = 16;

void start_with_bias(float* row, const float* bias, int64_t width) {
  if (bias == nullptr)
    std::fill(row, row + width, 0.0f);
  else
    std::copy(bias, bias + width, row);
}

}  // namespace

void sparse_decode(const CodeRows& codes, const float* atoms, int64_t size, int64_t width, const float* bias,
                   float* reconstruction) {
  check_codes(codes, size);
  parallel_for(codes.rows, kRowsPerPart, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      float* const target = reconstruction + row * width;
      const int64_t first = codes.offsets[row], count = codes.offsets[row + 1] - first;
      start_with_bias(target, bias, width);
      add_weighted_rows(target, width, codes.atoms + first, codes.values + first, count, atoms);
    }
  });
}

void sparse_decode_reference(const CodeRows& codes, const float* atoms, int64_t size, int64_t width, const float* bias,
                             float* reconstruction) {
  check_codes(codes, size);
  for (int64_t row = 0; row < codes.rows; ++row) {
    float* const target = reconstruction + row * width;
    start_with_bias(target, bias, width);
    for (int64_t entry = codes.offsets[row]; entry < codes.offsets[row + 1]; ++entry)
      for (int64_t column = 0; column < width; ++column)
        target[column] += codes.values[entry] * atoms[codes.atoms[entry] * width + column];
  }
}

}  // namespace sememe::kernels
