// The contract between rms_norm.cpp and its CUDA kernels. T: float, __nv_bfloat16 or __half. All tensors are
// contiguous (rows, d); the residual stream, its gradient and the weight are fp32 whatever T is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

namespace exactmamba::ops {

template <class T>
struct RmsNormCudaParams {
  int64_t rows = 0, size = 0;  // size: d, at most 8192
  float eps = 0;
  const float* weight = nullptr;  // (d)
  const float* scale = nullptr;   // (rows) [nullable]

  // forward
  const T* x = nullptr;
  T* out = nullptr;
  const float* residual = nullptr;  // [nullable]
  float* sum = nullptr;             // scale·x + residual, in fp32 [nullable]; may be residual
  float* rstd = nullptr;            // (rows) [nullable]

  // backward
  const T* normed = nullptr;  // forward's out
  const float* saved_rstd = nullptr;
  const T* grad_out = nullptr;
  const float* grad_residual_out = nullptr;  // [nullable]
  float* grad_residual = nullptr;            // may be grad_residual_out
  T* grad_x = nullptr;                       // scale·grad_residual in T [nullable]
  float* grad_weight = nullptr;              // (d), added to [nullable]
  void* workspace = nullptr;                 // rms_norm_backward_workspace() bytes

  cudaStream_t stream = nullptr;
};

template <class T>
size_t rms_norm_backward_workspace(const RmsNormCudaParams<T>& params);
template <class T>
cudaError_t launch_rms_norm_forward(const RmsNormCudaParams<T>& params);
template <class T>
cudaError_t launch_rms_norm_backward(const RmsNormCudaParams<T>& params);

}  // namespace exactmamba::ops
