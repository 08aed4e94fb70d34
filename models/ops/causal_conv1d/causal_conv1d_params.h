// The contract between causal_conv1d.cpp and its implementations. B batch, L length, D channels, W taps, S
// sequences.
#pragma once

#include <cstdint>

#include "models/ops/conv_activation.h"
#include "models/ops/rows.h"

namespace exactmamba::ops {

template <class T>
struct CausalConv1dParams {
  int64_t tokens = 0, channels = 0, width = 0;  // B·L, D, W
  models::ConvActivation activation;
  const Sequence* sequences = nullptr;
  int64_t sequence_count = 0;  // S
  Rows<const T> x;
  const T* weight = nullptr;          // (D, W)
  const T* bias = nullptr;            // (D) [nullable]
  const T* initial_states = nullptr;  // (S, D, W-1) [nullable]

  // forward
  Rows<T> out;
  T* final_states = nullptr;  // (S, D, W-1) [nullable]; may be initial_states

  // backward
  Rows<const T> grad_out;
  Rows<T> grad_x;            // [nullable]
  T* grad_weight = nullptr;  // (D, W), added to [nullable]
  T* grad_bias = nullptr;    // (D), added to [nullable]
};

template <class T>
void causal_conv1d_forward_cpu(const CausalConv1dParams<T>& params);
template <class T>
void causal_conv1d_backward_cpu(const CausalConv1dParams<T>& params);

}  // namespace exactmamba::ops
