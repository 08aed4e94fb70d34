// The contract of the CUDA kernels of ssd (see ssd.h for the operator): sizes, pointers and strides.
// B batch, L length, H heads, P head size, N states, G groups, S sequences, T: float, bf16 or fp16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>
#include <limits>

#include "models/ops/rows.h"

namespace exactmamba::ops {

/// Tokens of a chunk. `chunk_states` holds the state that enters every chunk.
inline constexpr int kSsdChunk = 128;

template <class T>
struct SsdCudaParams {
  int64_t batch = 0, length = 0, heads = 0, head_size = 0, states = 0, groups = 1;  // P, N ≤ 256
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
  const int32_t* cu_seqlens = nullptr;  // device, (S+1); null: every row is one sequence [nullable]
  int64_t sequence_count = 0;           // S
  /// Packed sequences with a state at their borders (initial, last, or the gradient of either; none may be
  /// given otherwise): chunks then start at sequence starts, which costs speed. The same in both directions.
  bool border_states = false;
  Rows<const T> x, dt, B, C;             // rows of H·P, H, G·N, G·N
  const float* A = nullptr;              // (H), negative
  const float* D = nullptr;              // (H) [nullable]
  const float* dt_bias = nullptr;        // (H) [nullable]
  const float* initial_state = nullptr;  // (S, H, P, N) [nullable]
  /// ssd_chunk_state_count elements of T, written by the forward pass, read by the backward pass. Null: each
  /// makes them in its workspace, where it needs them.
  T* chunk_states = nullptr;

  // forward
  Rows<T> out;                  // rows of H·P
  float* last_state = nullptr;  // (S, H, P, N) [nullable]; may be initial_state
  /// The gate behind, where ssd_takes_gate(): out becomes gate_weight ⊙ out ⊙ SiLU(z).
  Rows<const T> z;                     // rows of H·P [nullable]
  const float* gate_weight = nullptr;  // (H·P)
  float eps = 0;
  float* rstd = nullptr;  // (B·L, G) 1/sqrt(mean((out ⊙ SiLU(z))²) + eps) over a group's channels

  // backward
  Rows<const T> grad_out;
  const float* grad_last_state = nullptr;                               // (S, H, P, N) [nullable]
  Rows<T> grad_x, grad_dt, grad_B, grad_C;                              // written [nullable]
  float* grad_initial_state = nullptr;                                  // (S, H, P, N), written [nullable]
  float *grad_A = nullptr, *grad_D = nullptr, *grad_dt_bias = nullptr;  // (H), added to [nullable]

  void* workspace = nullptr;  // 256-byte aligned
  cudaStream_t stream = nullptr;
};

/// One token of generation; `state` (B, H, P, N) is updated in place. Rows of length 1.
template <class T, class State>
struct SsdStepParams {
  int64_t batch = 0, heads = 0, head_size = 0, states = 0, groups = 1;
  float dt_min = 0, dt_max = std::numeric_limits<float>::infinity();
  const T *x = nullptr, *dt = nullptr, *B = nullptr, *C = nullptr;  // rows of H·P, H, G·N, G·N
  int64_t x_stride = 0, dt_stride = 0, B_stride = 0, C_stride = 0, out_stride = 0;  // between rows
  const float *A = nullptr, *D = nullptr, *dt_bias = nullptr;  // (H); D, dt_bias [nullable]
  State* state = nullptr;
  T* out = nullptr;
  cudaStream_t stream = nullptr;
};

/// Whether the forward pass takes `z`, which is set.
template <class T>
bool ssd_takes_gate(const SsdCudaParams<T>& params);

/// Elements of `chunk_states`.
template <class T>
int64_t ssd_chunk_state_count(const SsdCudaParams<T>& params);

/// Bytes of workspace. All of `params` but `workspace` must be as it will be launched: unaligned rows take
/// more.
template <class T>
size_t ssd_forward_workspace(const SsdCudaParams<T>& params);
template <class T>
size_t ssd_backward_workspace(const SsdCudaParams<T>& params);

template <class T>
cudaError_t launch_ssd_forward(const SsdCudaParams<T>& params);
template <class T>
cudaError_t launch_ssd_backward(const SsdCudaParams<T>& params);
template <class T, class State>
cudaError_t launch_ssd_step(const SsdStepParams<T, State>& params);

}  // namespace exactmamba::ops
