// The contract between ssd.cpp and its implementations.
// B batch, L length, H heads, P head size, N states, G groups, S sequences.
#pragma once

#include <cstdint>

#include "models/ops/rows.h"

namespace exactmamba::ops {

template <class T>
struct SsdParams {
  int64_t tokens = 0, heads = 0, head_size = 0, states = 0, groups = 1;  // B·L, H, P, N, G
  double dt_min = 0, dt_max = 0;
  int64_t chunk_size = 0;  // a sequence of n tokens has ⌈n / chunk_size⌉ chunks
  const Sequence* sequences = nullptr;
  int64_t sequence_count = 0;        // S
  Rows<const T> x;                   // rows of H·P
  Rows<const T> dt;                  // rows of H
  Rows<const T> B, C;                // rows of G·N
  const T* A = nullptr;              // (H)
  const T* D = nullptr;              // (H) [nullable]
  const T* dt_bias = nullptr;        // (H) [nullable]
  const T* initial_state = nullptr;  // (S, H, P, N) [nullable]

  // forward
  Rows<T> out;                // rows of H·P
  T* chunk_states = nullptr;  // (chunks, H, P, N): the state entering every chunk [nullable]
  T* last_state = nullptr;    // (S, H, P, N) [nullable]; may be initial_state

  // backward
  const T* saved_states = nullptr;  // chunk_states of the forward pass
  Rows<const T> grad_out;
  const T* grad_last_state = nullptr;                               // (S, H, P, N) [nullable]
  Rows<T> grad_x, grad_dt, grad_B, grad_C;                          // [nullable]
  T* grad_initial_state = nullptr;                                  // (S, H, P, N) [nullable]
  T *grad_A = nullptr, *grad_D = nullptr, *grad_dt_bias = nullptr;  // (H), added to [nullable]
};

template <class T>
void ssd_forward_cpu(const SsdParams<T>& params);
template <class T>
void ssd_backward_cpu(const SsdParams<T>& params);

}  // namespace exactmamba::ops
