// Mamba-2's norm behind the gate: v = x ⊙ SiLU(z); out = weight ⊙ v / sqrt(mean(v² over the group) + eps),
// groups of D/G channels. float and double. Last dimensions contiguous; z may have any stride between tokens.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

struct GatedRmsNormInputs {
  at::Tensor x;       // (B, L, D) [nullable in backward on a GPU]
  at::Tensor z;       // (B, L, D)
  at::Tensor weight;  // (D)
  int64_t groups = 1;
  double eps = 1e-5;
  /// The root is left out: out = weight ⊙ v, and what follows, which must be linear, is to be multiplied by
  /// rstd (of several groups: what follows from each, by its own). Backward's grad_out is that of this out;
  /// the gradient through rstd is made from it, too.
  bool scale_later = false;
};
/// @return out (B, L, D). `rstd` (B, L, G) when asked for.
at::Tensor gated_rms_norm_forward(const GatedRmsNormInputs& in, at::Tensor* rstd = nullptr);

/// x and z are written where defined (z strided like the input); weight is ADDED to where defined. `out`, no
/// gradient, becomes forward's, bit by bit, where defined. x may be the input's tensor, and out grad_out's.
/// On a GPU `out` may hold forward's and stand for the input x, which is left undefined; x may then be
/// grad_out's tensor. The gradients are the same bits: there they come from forward's rounded out anyway,
/// which is why a weight or a SiLU(z) nearer to 0 than 2^-60 (half: 2^-14) counts as that.
struct GatedRmsNormGradients {
  at::Tensor x, z, weight;
  at::Tensor out = {};
};
void gated_rms_norm_backward(const GatedRmsNormInputs& in, const at::Tensor& rstd, const at::Tensor& grad_out,
                             GatedRmsNormGradients& gradients);

}  // namespace exactmamba::ops
