// The operator on a GPU: float, bfloat16 or half; A, D, dt_bias, their gradients and states are float. The
// tensors have been checked. `saved.chunk_states` is laid out as the kernels want it.
#pragma once

#include "models/ops/ssd/ssd.h"

namespace exactmamba::ops {

inline constexpr const char* kSsd = "ssd";  // in messages

/// A `last_state` that is defined is written where it is (it may be in.initial_state), else it is made.
at::Tensor ssd_forward_cuda(const SsdInputs& in, SsdSaved* saved, at::Tensor* last_state);
at::Tensor ssd_gated_forward_cuda(const SsdInputs& in, const GatedRmsNormInputs& norm, SsdSaved* saved,
                                  at::Tensor& rstd);
void ssd_backward_cuda(const SsdInputs& in, const SsdSaved& saved, const at::Tensor& grad_out,
                       const at::Tensor& grad_last_state, SsdGradients& gradients);

}  // namespace exactmamba::ops
