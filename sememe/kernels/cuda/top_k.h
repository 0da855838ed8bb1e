#pragma once
// kernels/top_k.h on a CUDA device: a block for each row finds by eleven bits of the scores which can be among the
// k largest. Of few it compares each with each; of many it finds the k-th by the other bits.

#include <cstdint>

#include "sememe/kernels/cuda/device.h"
#include "sememe/kernels/top_k.h"

namespace sememe::kernels::cuda {

/// What kernels::top_k() does. All pointers, those in `options` and `output` too, are of device memory.
/// @param pre_activations  [rows, width], rows and width below 2^31
/// @param first_unrankable [1], at least `rows` before: becomes the least row that cannot be ranked, if there is one; what is written
///                         for such a row is unspecified
/// @throws Error if k is out of range or the kernel cannot be started
void top_k(const float* pre_activations, int64_t rows, int64_t width, const TopKOptions& options, const TopKOutput& output,
           int32_t* first_unrankable, Stream stream);

}  // namespace sememe::kernels::cuda
