// The contract between selective_scan.cpp and its CUDA kernels.
// B batch, L length, D channels, N states (1 … 256), G groups, S sequences.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

#include "models/ops/rows.h"

namespace exactmamba::ops {

/// Tokens between two saved states. On the GPU they lie on a fixed grid in every row, whatever the sequences
/// are, so that their number needs no look at cu_seqlens: ⌈L / kScanTile⌉ a row.
inline constexpr int64_t kScanTile = 32;

/// T (float, __nv_bfloat16, __half) is the type of u, delta, z, B, C and out, of their gradients and of the
/// saved states. Everything else is fp32.
template <class T>
struct SelectiveScanCudaParams {
  int64_t batch = 0, length = 0, channels = 0, states = 0, groups = 1;
  bool delta_softplus = true;
  const int32_t* cu_seqlens = nullptr;   // device, S + 1 [nullable: every row is one sequence]
  int64_t sequence_count = 0;            // S; batch without cu_seqlens
  Rows<const T> u, delta, z;             // rows of D; z [nullable]
  Rows<const T> B, C;                    // rows of G·N
  const float* A = nullptr;              // (D, N), not positive
  bool A_is_log = false;                 // `A` holds A_log, A = −exp(A_log), and grad_A is A_log's
  const float* D = nullptr;              // (D) [nullable]
  const float* delta_bias = nullptr;     // (D) [nullable]
  const float* initial_state = nullptr;  // (S, D, N) [nullable]

  Rows<T> out;  // backward writes it too [there nullable]

  // forward
  T* chunk_states = nullptr;    // (B, ⌈L / kScanTile⌉, D, N): the state entering every tile [nullable]
  float* last_state = nullptr;  // (S, D, N) [nullable]; may be initial_state

  // backward
  const T* saved_states = nullptr;  // chunk_states of the forward pass
  Rows<const T> grad_out;
  const float* grad_last_state = nullptr;              // (S, D, N) [nullable]
  Rows<T> grad_u, grad_delta, grad_B, grad_C, grad_z;  // written [nullable]
  float* grad_A = nullptr;                             // (D, N), added to, as the next two [nullable]
  float* grad_D = nullptr;                             // (D)
  float* grad_delta_bias = nullptr;                    // (D)

  void* workspace = nullptr;  // as many bytes as the function below says, aligned to 16
  cudaStream_t stream = nullptr;
};

/// Bytes of workspace that a call with these sizes and pointers needs (0 is possible).
template <class T>
size_t selective_scan_forward_workspace(const SelectiveScanCudaParams<T>& params);
template <class T>
size_t selective_scan_backward_workspace(const SelectiveScanCudaParams<T>& params);

template <class T>
cudaError_t launch_selective_scan_forward(const SelectiveScanCudaParams<T>& params);
template <class T>
cudaError_t launch_selective_scan_backward(const SelectiveScanCudaParams<T>& params);

/// One token a row (L = 1, no cu_seqlens): initial_state and last_state are needed and may be the same.
template <class T>
cudaError_t launch_selective_scan_step(const SelectiveScanCudaParams<T>& params);

}  // namespace exactmamba::ops
