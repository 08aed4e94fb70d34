// The contract between selective_scan.cpp and its implementations.
// B batch, L length, D channels, N states, G groups, S sequences.
#pragma once

#include <cstdint>

#include "models/ops/rows.h"

namespace exactmamba::ops {

/// Tokens of a chunk. A chunk never crosses a sequence boundary: a sequence of n tokens has ⌈n / kScanChunk⌉
/// chunks.
inline constexpr int64_t kScanChunk = 32;

template <class T>
struct SelectiveScanParams {
  int64_t tokens = 0, channels = 0, states = 0, groups = 1;  // B·L, D, N, G
  bool delta_softplus = true;
  const Sequence* sequences = nullptr;
  int64_t sequence_count = 0;        // S
  Rows<const T> u, delta, z;         // rows of D; z [nullable]
  Rows<const T> B, C;                // rows of G·N
  const T* A = nullptr;              // (D, N)
  const T* D = nullptr;              // (D) [nullable]
  const T* delta_bias = nullptr;     // (D) [nullable]
  const T* initial_state = nullptr;  // (S, D, N) [nullable]

  Rows<T> out;  // backward writes it too [there nullable]

  // forward
  T* chunk_states = nullptr;  // (chunks, N, D): the state entering every chunk [nullable]
  T* last_state = nullptr;    // (S, D, N) [nullable]; may be initial_state

  // backward
  const T* saved_states = nullptr;  // chunk_states of the forward pass
  Rows<const T> grad_out;
  const T* grad_last_state = nullptr;                  // (S, D, N) [nullable]
  Rows<T> grad_u, grad_delta, grad_B, grad_C, grad_z;  // [nullable]
  T* grad_A = nullptr;                                 // (D, N), added to, as the next two [nullable]
  T* grad_D = nullptr;                                 // (D)
  T* grad_delta_bias = nullptr;                        // (D)
};

template <class T>
void selective_scan_forward_cpu(const SelectiveScanParams<T>& params);
template <class T>
void selective_scan_backward_cpu(const SelectiveScanParams<T>& params);

}  // namespace exactmamba::ops
