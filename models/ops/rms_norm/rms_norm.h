// RMSNorm with the residual addition fused: r = x + residual; out = weight ⊙ r / sqrt(mean(r²) + eps). (Zhang
// & Sennrich 2019) The last dimension is normalised. On a CPU all is float or all is double. On a GPU x and
// out are float, bfloat16 or half; the residual stream, weight and rstd are float.
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
  at::Tensor out;           // (…, d) in x's dtype
  at::Tensor residual_out;  // (…, d) = x + residual; x itself without residual, where the dtypes are equal
  at::Tensor rstd;          // (…) 1/rms, for backward and for decomposition
};
RmsNormOutputs rms_norm_forward(const RmsNormInputs& in);

/// What backward needs of forward.
struct RmsNormSaved {
  at::Tensor residual_out;  // (…, d) of forward; or, where x is given, its residual
  at::Tensor rstd;          // (…)
  at::Tensor x = {};        // (…, d) still to be added to residual_out [nullable]
};

/// Forward's `out`, bit by bit, in `dtype`.
at::Tensor rms_norm_again(const RmsNormSaved& saved, const at::Tensor& weight, double eps,
                          at::ScalarType dtype);

struct RmsNormGradient {
  at::Tensor residual;  // (…, d) of x + residual: through out, plus `grad_residual_out`
  at::Tensor x;         // the same in x's dtype
};
/// `grad_residual_out` [nullable]. `grad_weight` (d) is ADDED to where defined. `out` [nullable]: becomes
/// forward's, bit by bit.
RmsNormGradient rms_norm_backward(const RmsNormSaved& saved, const at::Tensor& weight,
                                  const at::Tensor& grad_out, const at::Tensor& grad_residual_out,
                                  at::Tensor& grad_weight, at::Tensor* out = nullptr);

}  // namespace exactmamba::ops
