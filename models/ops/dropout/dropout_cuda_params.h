// The contract between dropout.cpp and its CUDA kernel. T: float, __nv_bfloat16 or __half.
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

namespace exactmamba::ops {

template <class T>
struct DropoutCudaParams {
  int64_t rows = 0, size = 0;  // B, L·d
  const T* x = nullptr;
  T* out = nullptr;  // may be x
  uint32_t key[2] = {};
  uint64_t layer = 0, first_row = 0;  // step and sample of the random stream (core/random.h)
  uint32_t threshold = 0;
  float scale = 1;

  cudaStream_t stream = nullptr;
};

template <class T>
cudaError_t launch_dropout(const DropoutCudaParams<T>& params);

}  // namespace exactmamba::ops
