// The contract between gated_rms_norm.cpp and its CUDA kernels. B batch, L length, D channels, G groups. T:
// float, __nv_bfloat16 or __half.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

#include "models/ops/rows.h"

namespace exactmamba::ops {

template <class T>
struct GatedRmsNormCudaParams {
  int64_t tokens = 0, channels = 0, groups = 1;  // B·L, D, G; D/G at most 8192, G at most 65535
  float eps = 0;
  bool scale_later = false;  // out without rstd
  Rows<const T> x, z;
  const float* weight = nullptr;  // (D)
  Rows<T> out;                    // backward writes it too; may be grad_out [there nullable]

  // forward
  float* rstd = nullptr;  // (B·L, G) [nullable]

  // backward
  Rows<const T> normed;               // forward's out, in place of x [nullable]
  const float* saved_rstd = nullptr;  // (B·L, G)
  Rows<const T> grad_out;
  Rows<T> grad_x, grad_z;        // grad_x may be x [nullable]
  float* grad_weight = nullptr;  // (D), added to [nullable]
  void* workspace = nullptr;     // gated_rms_norm_backward_workspace() bytes

  cudaStream_t stream = nullptr;
};

template <class T>
size_t gated_rms_norm_backward_workspace(const GatedRmsNormCudaParams<T>& params);
template <class T>
cudaError_t launch_gated_rms_norm_forward(const GatedRmsNormCudaParams<T>& params);
template <class T>
cudaError_t launch_gated_rms_norm_backward(const GatedRmsNormCudaParams<T>& params);

}  // namespace exactmamba::ops
