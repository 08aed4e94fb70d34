// The operator on a GPU: float, bfloat16 or half; weight, bias, their gradients and states are float. The
// tensors have been checked.
#pragma once

#include "models/ops/causal_conv1d/causal_conv1d.h"

namespace exactmamba::ops {

inline constexpr const char* kCausalConv1d = "causal_conv1d";  // in messages

/// `final_states` that are defined are written where they are (they may be in.initial_states), else made.
at::Tensor causal_conv1d_forward_cuda(const CausalConv1dInputs& in, at::Tensor* final_states);
/// Makes `out` and fills `projected`. @return false, and nothing is done, where there is no kernel of both
bool causal_conv1d_forward_projected_cuda(const CausalConv1dInputs& in, const at::Tensor& weight,
                                          at::Tensor& out, const at::Tensor& projected);
/// `projection` [nullable]: only one that backward_projects_cuda() takes.
void causal_conv1d_backward_cuda(const CausalConv1dInputs& in, const at::Tensor& grad_out,
                                 CausalConv1dGradients& gradients, const CausalConv1dProjection* projection);
/// Whether there is a kernel of both.
bool backward_projects_cuda(const CausalConv1dInputs& in, const at::Tensor& grad_out,
                            const CausalConv1dGradients& gradients, const CausalConv1dProjection& projection);

}  // namespace exactmamba::ops
