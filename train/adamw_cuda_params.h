// The contract between AdamW and its CUDA kernel: one update of a flat buffer, in float. T: what products
// compute with (float, __nv_bfloat16 or __half).
#pragma once

#include <cstdint>
#include <cuda_runtime_api.h>

namespace exactmamba::train {

/// All buffers have `count` elements, a multiple of 4, and lie on 16-byte boundaries.
template <class T>
struct AdamWCudaParams {
  int64_t count = 0;
  float *parameters = nullptr, *exp_avg = nullptr, *exp_avg_sq = nullptr;
  const float* gradient = nullptr;
  T* compute = nullptr;            // the parameters, rounded [nullable]
  const double* factor = nullptr;  // () of the gradient, on the device
  const bool* allowed = nullptr;   // () on the device; where it is false nothing is written

  float beta1 = 0, beta2 = 0, eps = 0;
  float decay = 0;       // learning rate · weight decay
  float step_size = 0;   // learning rate / (1 − beta1^s) in update s
  float correction = 1;  // 1 / √(1 − beta2^s)

  cudaStream_t stream = nullptr;
};

template <class T>
cudaError_t launch_adamw(const AdamWCudaParams<T>& params);

}  // namespace exactmamba::train
