// The operator on a GPU: float, bfloat16 or half; A, D, delta_bias, their gradients and states are float. The
// tensors have been checked. `saved.chunk_states` is laid out as the kernels want it.
#pragma once

#include "models/ops/selective_scan/selective_scan.h"

namespace exactmamba::ops {

inline constexpr const char* kSelectiveScan = "selective_scan";  // in messages

/// A `last_state` that is defined is written where it is (it may be in.initial_state), else it is made.
at::Tensor selective_scan_forward_cuda(const SelectiveScanInputs& in, SelectiveScanSaved* saved,
                                       at::Tensor* last_state);
void selective_scan_backward_cuda(const SelectiveScanInputs& in, const SelectiveScanSaved& saved,
                                  const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                                  SelectiveScanGradients& gradients);

}  // namespace exactmamba::ops
