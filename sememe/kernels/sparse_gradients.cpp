#include "sememe/kernels/sparse_gradients.h"

#include <algorithm>

#include "sememe/base/threads.h"
#include "sememe/kernels/weighted_rows.h"

namespace sememe::kernels {
namespace {

constexpr int64_t kRowsPerPart = 16;

}  // namespace

void sparse_code_gradients(const CodeRows& codes, const float* output_gradients, const float* decoder, int64_t size,
                           int64_t width, float* code_gradients) {
  check_codes(codes, size);
  parallel_for(codes.rows, kRowsPerPart, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = codes.offsets[row], count = codes.offsets[row + 1] - first;
      dot_rows(code_gradients + first, output_gradients + row * width, width, codes.atoms + first, count, decoder);
    }
  });
}

void sparse_code_gradients_reference(const CodeRows& codes, const float* output_gradients, const float* decoder, int64_t size,
                                     int64_t width, float* code_gradients) {
  check_codes(codes, size);
  for (int64_t row = 0; row < codes.rows; ++row) {
    for (int64_t entry = codes.offsets[row]; entry < codes.offsets[row + 1]; ++entry) {
      code_gradients[entry] = 0;
      for (int64_t column = 0; column < width; ++column)
        code_gradients[entry] += output_gradients[row * width + column] * decoder[codes.atoms[entry] * width + column];
    }
  }
}

void add_atom_gradient(const CodeColumns& columns, int64_t atom, const float* weights, const float* row_vectors, int64_t width,
                       float* gradient) {
  // The weights are gathered a few at a time, so that an atom of any number of entries needs no memory.
  constexpr int64_t kGathered = 256;
  float ordered[kGathered];
  for (int64_t first = columns.offsets[atom]; first < columns.offsets[atom + 1]; first += kGathered) {
    const int64_t count = std::min(kGathered, columns.offsets[atom + 1] - first);
    for (int64_t i = 0; i < count; ++i) ordered[i] = weights[columns.entries[first + i]];
    add_weighted_rows(gradient, width, columns.rows.data() + first, ordered, count, row_vectors);
  }
}

void add_atom_gradients(const CodeColumns& columns, const float* weights, const float* row_vectors, int64_t width,
                        float* gradients) {
  parallel_for(columns.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t atom = begin; atom < end; ++atom)
      add_atom_gradient(columns, atom, weights, row_vectors, width, gradients + atom * width);
  });
}

void add_atom_gradients_reference(const CodeColumns& columns, const float* weights, const float* row_vectors, int64_t width,
                                  float* gradients) {
  for (int64_t atom = 0; atom < columns.size(); ++atom)
    for (int64_t place = columns.offsets[atom]; place < columns.offsets[atom + 1]; ++place)
      for (int64_t column = 0; column < width; ++column)
        gradients[atom * width + column] +=
            weights[columns.entries[place]] * row_vectors[columns.rows[place] * width + column];
}

void add_bias_gradients(const CodeColumns& columns, const float* code_gradients, float* bias_gradients) {
  for (int64_t atom = 0; atom < columns.size(); ++atom)
    for (int64_t place = columns.offsets[atom]; place < columns.offsets[atom + 1]; ++place)
      bias_gradients[atom] += code_gradients[columns.entries[place]];
}

}  // namespace sememe::kernels
