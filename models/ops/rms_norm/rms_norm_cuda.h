// The operator on a GPU. The tensors have been checked.
#pragma once

#include "models/ops/rms_norm/rms_norm.h"

namespace exactmamba::ops {

RmsNormOutputs rms_norm_forward_cuda(const RmsNormInputs& in);
RmsNormGradient rms_norm_backward_cuda(const RmsNormSaved& saved, const at::Tensor& weight,
                                       const at::Tensor& grad_out, const at::Tensor& grad_residual_out,
                                       at::Tensor& grad_weight);

}  // namespace exactmamba::ops
