// RMSNorm with the residual addition fused: r = x + residual; out = weight ⊙ r / sqrt(mean(r²) + eps). (Zhang
// & Sennrich 2019) float and double; the last dimension is normalised.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

struct RmsNormInputs {
  at::Tensor x;         // (…, d)
  at::Tensor residual;  // (…, d) [nullable]
  at::Tensor weight;    // (d)
  double eps = 1e-5;
};
struct RmsNormOutputs {
  at::Tensor out;           // (…, d)
  at::Tensor residual_out;  // (…, d) = x + residual; x itself without residual
  at::Tensor rstd;          // (…) 1/rms, for backward and for decomposition
};
RmsNormOutputs rms_norm_forward(const RmsNormInputs& in);

/// `residual_out` and `rstd` as forward returned them. @return gradient of x (and of residual: they are
/// equal): the part through out, plus `grad_residual_out` [nullable]. `grad_weight` (d) is ADDED to where
/// defined.
at::Tensor rms_norm_backward(const at::Tensor& residual_out, const at::Tensor& rstd, const at::Tensor& weight,
                             const at::Tensor& grad_out, const at::Tensor& grad_residual_out,
                             at::Tensor& grad_weight);

}  // namespace exactmamba::ops
