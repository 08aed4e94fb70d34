// What SsdParams and SsdCudaParams have in common.
#pragma once

#include "models/ops/checks.h"
#include "models/ops/ssd/ssd.h"

namespace exactmamba::ops {

template <class Params>
void set_inputs(Params& params, const SsdInputs& in) {
  params.heads = in.x.size(2);
  params.head_size = in.x.size(3);
  params.groups = in.B.size(2);
  params.states = in.B.size(3);
  params.dt_min = static_cast<decltype(params.dt_min)>(in.dt_min);
  params.dt_max = static_cast<decltype(params.dt_max)>(in.dt_max);
  set(params.x, in.x);
  set(params.dt, in.dt);
  set(params.B, in.B);
  set(params.C, in.C);
  set(params.A, in.A);
  set(params.D, in.D);
  set(params.dt_bias, in.dt_bias);
}

/// Backward's, given and asked for, but the saved states.
template <class Params>
void set_gradients(Params& params, const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                   const SsdGradients& gradients) {
  set(params.grad_out, grad_out);
  set(params.grad_last_state, grad_last_state);
  set(params.grad_x, gradients.x);
  set(params.grad_dt, gradients.dt);
  set(params.grad_B, gradients.B);
  set(params.grad_C, gradients.C);
  set(params.grad_initial_state, gradients.initial_state);
  set(params.grad_A, gradients.A);
  set(params.grad_D, gradients.D);
  set(params.grad_dt_bias, gradients.dt_bias);
}

}  // namespace exactmamba::ops
