// What SelectiveScanParams and SelectiveScanCudaParams have in common.
#pragma once

#include "models/ops/checks.h"
#include "models/ops/selective_scan/selective_scan.h"

namespace exactmamba::ops {

/// A, or A_log where that is given.
inline const at::Tensor& given_A(const SelectiveScanInputs& in) {
  return in.A_log.defined() ? in.A_log : in.A;
}

template <class Params>
void set_inputs(Params& params, const SelectiveScanInputs& in) {
  params.channels = in.u.size(2);
  params.states = given_A(in).size(1);
  params.groups = in.B.dim() == 4 ? in.B.size(2) : 1;
  params.delta_softplus = in.delta_softplus;
  set(params.u, in.u);
  set(params.delta, in.delta);
  set(params.z, in.z);
  set(params.B, in.B);
  set(params.C, in.C);
  set(params.A, given_A(in));
  set(params.D, in.D);
  set(params.delta_bias, in.delta_bias);
  set(params.initial_state, in.initial_state);
}

/// Backward's, given and asked for.
template <class Params>
void set_gradients(Params& params, const SelectiveScanSaved& saved, const at::Tensor& grad_out,
                   const at::Tensor& grad_last_state, const SelectiveScanGradients& gradients) {
  set(params.saved_states, saved.chunk_states);
  set(params.grad_out, grad_out);
  set(params.grad_last_state, grad_last_state);
  set(params.grad_u, gradients.u);
  set(params.grad_delta, gradients.delta);
  set(params.grad_B, gradients.B);
  set(params.grad_C, gradients.C);
  set(params.grad_z, gradients.z);
  set(params.out, gradients.out);
  set(params.grad_A, gradients.A);
  set(params.grad_D, gradients.D);
  set(params.grad_delta_bias, gradients.delta_bias);
}

}  // namespace exactmamba::ops
