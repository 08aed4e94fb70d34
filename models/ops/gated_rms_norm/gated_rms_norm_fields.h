// What GatedRmsNormParams and GatedRmsNormCudaParams have in common.
#pragma once

#include "models/ops/checks.h"
#include "models/ops/gated_rms_norm/gated_rms_norm.h"

namespace exactmamba::ops {

template <class Params>
void set_inputs(Params& params, const GatedRmsNormInputs& in) {
  params.tokens = in.z.size(0) * in.z.size(1);
  params.channels = in.z.size(2);
  params.groups = in.groups;
  params.eps = static_cast<decltype(params.eps)>(in.eps);
  params.scale_later = in.scale_later;
  set(params.x, in.x);
  set(params.z, in.z);
  set(params.weight, in.weight);
}

/// Backward's, given and asked for.
template <class Params>
void set_gradients(Params& params, const at::Tensor& rstd, const at::Tensor& grad_out,
                   const GatedRmsNormGradients& gradients) {
  set(params.saved_rstd, rstd);
  set(params.grad_out, grad_out);
  set(params.grad_x, gradients.x);
  set(params.grad_z, gradients.z);
  set(params.out, gradients.out);
  set(params.grad_weight, gradients.weight);
}

}  // namespace exactmamba::ops
