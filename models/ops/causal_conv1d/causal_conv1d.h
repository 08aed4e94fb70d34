// Causal depthwise convolution with the activation fused:
//   a_t = bias + Σ_{k<W} weight[:, W-1-k] ⊙ x_{t-k},   out_t = φ_α(a_t)          (state-spaces causal-conv1d)
// float and double. Last dimensions contiguous; x may have any stride between tokens (a slice of in_proj's
// output).
#pragma once

#include <ATen/core/Tensor.h>

#include "models/ops/conv_activation.h"

namespace exactmamba::ops {

struct CausalConv1dInputs {
  at::Tensor x;       // (B, L, D)
  at::Tensor weight;  // (D, W)
  at::Tensor bias;    // (D) [nullable]
  models::ConvActivation activation;
  at::Tensor cu_seqlens;      // see sequences.h [nullable]
  at::Tensor initial_states;  // (S, D, W-1), oldest first: the inputs before each sequence; zeros if
                              // undefined [nullable]
};

/// @return out (B, L, D). `final_states` (S, D, W-1), when asked for: the last W-1 inputs of each sequence.
/// @throws InputError on shapes or dtypes that do not fit.
at::Tensor causal_conv1d_forward(const CausalConv1dInputs& in, at::Tensor* final_states = nullptr);

/// The same, and `projected` (B, L, P) becomes out · weightᵀ, with weight (P, D) of x's dtype.
at::Tensor causal_conv1d_forward_projected(const CausalConv1dInputs& in, const at::Tensor& weight,
                                           at::Tensor& projected);

/// `x` is written where defined (it may be a strided slice, like in.x); parameter gradients are ADDED where
/// defined. No gradient flows into initial_states.
struct CausalConv1dGradients {
  at::Tensor x;       // (B, L, D)
  at::Tensor weight;  // (D, W)
  at::Tensor bias;    // (D)
};

/// A projection of the output, projected = out · weightᵀ, whose gradients are taken on the way. Contiguous.
struct CausalConv1dProjection {
  at::Tensor grad;         // (B, L, P) of projected
  at::Tensor weight;       // (P, D), of x's dtype
  at::Tensor out;          // (B, L, D) as forward returned it; a kernel of both makes it again
  at::Tensor grad_weight;  // (P, D), ADDED to
};

/// `projection` [nullable]: out's gradient is grad_out, which is contiguous and may be written, and what
/// comes through it. gradients.x shares no memory with in.x, grad_out and projection.grad.
void causal_conv1d_backward(const CausalConv1dInputs& in, const at::Tensor& grad_out,
                            CausalConv1dGradients& gradients,
                            const CausalConv1dProjection* projection = nullptr);

/// One token: x (B, D) → out (B, D); `state` (B, D, W-1) is shifted in place.
at::Tensor causal_conv1d_step(const at::Tensor& x, at::Tensor& state, const at::Tensor& weight,
                              const at::Tensor& bias, const models::ConvActivation& activation);

}  // namespace exactmamba::ops
