// RMSNorm with the residual addition fused: r = scale·x + residual; out = weight ⊙ r / sqrt(mean(r²) + eps).
// (Zhang & Sennrich 2019) The last dimension is normalised. On a CPU all is float or all is double. On a GPU
// x and out are float, bfloat16 or half; the residual stream, weight, scale and rstd are float.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

struct RmsNormInputs {
  at::Tensor x;         // (…, d)
  at::Tensor residual;  // (…, d) [nullable]
  at::Tensor weight;    // (d)
  double eps = 1e-5;
  at::Tensor scale = {};  // (…) of x's rows: what gated_rms_norm left for later [nullable]
};
struct RmsNormOutputs {
  at::Tensor out;           // (…, d) in x's dtype
  at::Tensor residual_out;  // (…, d) r; x itself without residual and scale, where the dtypes are equal
  at::Tensor rstd;          // (…) 1/rms, for backward and for decomposition
  at::Tensor scale;         // the input's
};
RmsNormOutputs rms_norm_forward(const RmsNormInputs& in);

/// What backward needs of forward: on a CPU its residual_out; on a GPU its out, which has half the bytes and
/// which what follows the norm keeps anyway. Backward divides the weight out of it, so that forward takes a
/// weight nearer to 0 than 2^-60 (half: 2^-14) for that.
struct RmsNormSaved {
  at::Tensor rows;   // (…, d)
  at::Tensor rstd;   // (…)
  at::Tensor scale;  // (…) [nullable]
};
RmsNormSaved rms_norm_saved(const RmsNormOutputs& outputs);

struct RmsNormGradient {
  at::Tensor residual;  // (…, d) of r: through out, plus `grad_residual_out`
  at::Tensor x;         // the same in x's dtype, times the scale; that of the scale is not made
};
/// `grad_residual_out` [nullable]. `grad_weight` (d) is ADDED to where defined.
RmsNormGradient rms_norm_backward(const RmsNormSaved& saved, const at::Tensor& weight,
                                  const at::Tensor& grad_out, const at::Tensor& grad_residual_out,
                                  at::Tensor& grad_weight);

}  // namespace exactmamba::ops
