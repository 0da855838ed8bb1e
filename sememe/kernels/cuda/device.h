#pragma once
// What the CUDA kernels share. They are compiled where there is nvcc (cmake/cuda.cmake); elsewhere available() is false.

struct CUstream_st;

namespace sememe::kernels::cuda {

/// A cudaStream_t: where work is queued, in order. Null is the default stream, which is LibTorch's own unless told otherwise.
using Stream = CUstream_st*;

/// Whether the kernels were compiled and the current CUDA device can run them. Asked of the device once.
bool available();

/// @throws Error naming the kernel unless `error` is null, its launch having gone well
void check_launch(const char* kernel, const char* error);

}  // namespace sememe::kernels::cuda
