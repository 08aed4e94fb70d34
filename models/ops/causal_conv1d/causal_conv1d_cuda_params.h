// The contract between causal_conv1d.cpp and its CUDA kernels. B batch, L length, D channels, W taps, S
// sequences, P columns of a projection. T: float, __nv_bfloat16 or __half; parameters, their gradients and
// states are fp32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

#include "models/ops/conv_activation.h"
#include "models/ops/rows.h"

namespace exactmamba::ops {

inline constexpr int kMaxConvWidth = 8;

template <class T>
struct CausalConv1dCudaParams {
  int64_t tokens = 0, channels = 0, width = 0;  // B·L below 2³¹, D, W in 1..kMaxConvWidth
  models::ConvActivation activation;
  const int32_t* cu_seqlens = nullptr;  // (S+1), on the device [nullable]: each row of x is a sequence
  int64_t sequence_count = 0;           // S
  Rows<const T> x;
  const float* weight = nullptr;          // (D, W)
  const float* bias = nullptr;            // (D) [nullable]
  const float* initial_states = nullptr;  // (S, D, W-1) [nullable]

  // of a projection projected = out · projectionᵀ, taken along [nullable: without projected_columns]
  int64_t projected_columns = 0;  // P
  const T* projection = nullptr;  // (P, D)

  // forward
  Rows<T> out;
  Rows<T> projected;              // (B, L, P)
  float* final_states = nullptr;  // (S, D, W-1) [nullable]; not initial_states

  // backward
  Rows<const T> grad_out;
  Rows<T> grad_x;                    // [nullable]
  float* grad_weight = nullptr;      // (D, W), added to [nullable]
  float* grad_bias = nullptr;        // (D), added to [nullable]
  Rows<const T> grad_projected;      // (B, L, P)
  float* grad_projection = nullptr;  // (P, D), added to
  void* workspace = nullptr;         // causal_conv1d_backward_workspace() bytes

  cudaStream_t stream = nullptr;
};

/// One token of each sequence; `state` (B, D, W-1) is shifted in place.
template <class T>
struct CausalConv1dStepCudaParams {
  int64_t batch = 0, channels = 0, width = 0;  // B, D, W
  models::ConvActivation activation;
  const T* x = nullptr;  // (B, D), rows x_stride apart
  int64_t x_stride = 0;
  const float* weight = nullptr;  // (D, W)
  const float* bias = nullptr;    // (D) [nullable]
  float* state = nullptr;
  T* out = nullptr;  // (B, D), rows out_stride apart
  int64_t out_stride = 0;
  cudaStream_t stream = nullptr;
};

/// Whether the pass, of which the pointers are set, can take the projection along.
template <class T>
bool causal_conv1d_forward_projects(const CausalConv1dCudaParams<T>& params);
template <class T>
bool causal_conv1d_backward_projects(const CausalConv1dCudaParams<T>& params);
template <class T>
size_t causal_conv1d_backward_workspace(const CausalConv1dCudaParams<T>& params);
template <class T>
cudaError_t launch_causal_conv1d_forward(const CausalConv1dCudaParams<T>& params);
template <class T>
cudaError_t launch_causal_conv1d_backward(const CausalConv1dCudaParams<T>& params);
template <class T>
cudaError_t launch_causal_conv1d_step(const CausalConv1dStepCudaParams<T>& params);

}  // namespace exactmamba::ops
