// What CausalConv1dParams and CausalConv1dCudaParams have in common.
#pragma once

#include "models/ops/causal_conv1d/causal_conv1d.h"
#include "models/ops/checks.h"

namespace exactmamba::ops {

template <class Params>
void set_inputs(Params& params, const CausalConv1dInputs& in) {
  params.tokens = in.x.size(0) * in.x.size(1);
  params.channels = in.x.size(2);
  params.width = in.weight.size(1);
  params.activation = in.activation;
  set(params.x, in.x);
  set(params.weight, in.weight);
  set(params.bias, in.bias);
  set(params.initial_states, in.initial_states);
}

/// Backward's, given and asked for.
template <class Params>
void set_gradients(Params& params, const at::Tensor& grad_out, const CausalConv1dGradients& gradients) {
  set(params.grad_out, grad_out);
  set(params.grad_x, gradients.x);
  set(params.grad_weight, gradients.weight);
  set(params.grad_bias, gradients.bias);
}

}  // namespace exactmamba::ops
