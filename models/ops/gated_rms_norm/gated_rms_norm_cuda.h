// The operator on a GPU: float, bfloat16 or half; weight, its gradient and rstd are float. The tensors have
// been checked.
#pragma once

#include "models/ops/gated_rms_norm/gated_rms_norm.h"

namespace exactmamba::ops {

at::Tensor gated_rms_norm_forward_cuda(const GatedRmsNormInputs& in, at::Tensor* rstd);
void gated_rms_norm_backward_cuda(const GatedRmsNormInputs& in, const at::Tensor& rstd,
                                  const at::Tensor& grad_out, GatedRmsNormGradients& gradients);

}  // namespace exactmamba::ops
