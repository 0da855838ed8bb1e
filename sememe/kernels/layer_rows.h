#pragma once
// What a transformer does to one row of activations between its products. Each beside its scalar reference, which is what it means.

#include <cstdint>

namespace sememe::kernels {

/// out_i = weight_i x_i / sqrt(mean x^2 + epsilon); `weight` may be null, for ones. In place is allowed. (Zhang & Sennrich 2019, eq. 4)
void rms_norm_row(const float* x, const float* weight, int64_t width, float epsilon, float* out);
void rms_norm_row_reference(const float* x, const float* weight, int64_t width, float epsilon, float* out);

/// out_i = weight_i (x_i - mean) / sqrt(variance + epsilon) + bias_i. In place is allowed. (Ba, Kiros & Hinton 2016)
void layer_norm_row(const float* x, const float* weight, const float* bias, int64_t width, float epsilon, float* out);
void layer_norm_row_reference(const float* x, const float* weight, const float* bias, int64_t width, float epsilon, float* out);

/// Turns each pair (x_j, x_{j + half}) by its angle, in place. (Su et al. 2021, eq. 34, in halves as Llama does)
void rotate_row(float* x, const float* cosines, const float* sines, int64_t half);
void rotate_row_reference(float* x, const float* cosines, const float* sines, int64_t half);

enum class Unit { kRelu, kSilu, kGelu, kGeluTanh };  ///< kGelu by the error function, kGeluTanh by its tanh approximation

/// out_i = unit(x_i) up_i; `up` may be null, for ones. In place is allowed.
void unit_row(Unit unit, const float* x, const float* up, int64_t width, float* out);
void unit_row_reference(Unit unit, const float* x, const float* up, int64_t width, float* out);

/// into_i += x_i
void add_row(const float* x, int64_t width, float* into);

}  // namespace sememe::kernels
