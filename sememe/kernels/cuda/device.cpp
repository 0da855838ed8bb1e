#include "sememe/kernels/cuda/device.h"

#include "sememe/base/error.h"
#include "sememe/kernels/cuda/adam.h"
#include "sememe/kernels/cuda/top_k.h"
#include "sememe/kernels/cuda/weighted_rows.h"

namespace sememe::kernels::cuda {

void check_launch(const char* kernel, const char* error) {
  if (error != nullptr) fail("the CUDA kernel {} could not be started: {}", kernel, error);
}

#ifndef SEMEME_CUDA

namespace {
[[noreturn]] void fail_absent() { fail("this build has no CUDA kernels; they are compiled where there is nvcc"); }
}  // namespace

bool available() { return false; }
void top_k(const float*, int64_t, int64_t, const TopKOptions&, const TopKOutput&, int32_t*, Stream) { fail_absent(); }
void sum_weighted_rows(const CodeRows&, const float*, int64_t, const float*, float*, Stream) { fail_absent(); }
void adam(const AdamStep&, float*, const float*, float*, float*, int64_t, Stream) { fail_absent(); }
void adam_unit_rows(const AdamStep&, float*, const float*, float*, float*, int64_t, int64_t, float*, Stream) { fail_absent(); }
void dot_rows(const CodeRows&, const float*, const float*, int64_t, float*, Stream) { fail_absent(); }

#endif

}  // namespace sememe::kernels::cuda
