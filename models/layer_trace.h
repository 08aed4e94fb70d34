// What decomposition needs of one mixer, for one row of L tokens (letters: design/maths). All tensors in the
// trace's dtype (float or double), contiguous. Frozen coefficients come from the real forward pass; y is the
// model's own output, never a sum of parts.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/config.h"

namespace exactmamba::models {

struct LayerTrace {
  Architecture architecture = Architecture::kMamba1;
  int64_t layer = 0;
  ConvActivation activation;
  at::Tensor cu_seqlens;  // (S+1) int32 over the L positions

  // activations
  at::Tensor r;      // (L, d) residual stream entering the block
  at::Tensor y;      // (L, d) mixer output
  at::Tensor x;      // (L, D) input of the convolution (Mamba-2: the x channels)
  at::Tensor a;      // (L, D) its output before φ
  at::Tensor z;      // (L, D) gate before SiLU
  at::Tensor delta;  // (L, D) Mamba-1, (L, H) Mamba-2: after softplus and clamp
  at::Tensor B, C;   // (L, 1, N) Mamba-1, (L, G, N) Mamba-2: after convolution and φ
  at::Tensor rho;    // (L, G) 1/rms of the gated sum; Mamba-2 only

  // parameters (views of the model)
  at::Tensor conv_weight;  // (D, W) of the x channels; tap for lag k = conv_weight[:, W-1-k]
  at::Tensor conv_bias;    // (D) [nullable]
  at::Tensor A;            // (D, N) Mamba-1, (H) Mamba-2; negative
  at::Tensor D;            // (D) Mamba-1, (H) Mamba-2
  at::Tensor norm_weight;  // (D) gated norm; Mamba-2 only
  at::Tensor out_weight;   // (d, D)
  at::Tensor out_bias;     // (d) [nullable]

  int64_t length() const { return r.size(0); }
  int64_t d_model() const { return out_weight.size(0); }
  int64_t d_inner() const { return out_weight.size(1); }
  int64_t headdim() const { return d_inner() / A.size(0); }  // Mamba-2
};

/// The top of the model for one row.
struct TopTrace {
  at::Tensor embedding;    // (L, d) what enters the residual stream
  at::Tensor r_top;        // (L, d) the stream after the last block
  at::Tensor rho;          // (L) 1/rms of r_top, eps inside
  at::Tensor norm_weight;  // (d) norm_f
  at::Tensor head_weight;  // (V, d)
  at::Tensor predicted;    // (L) int64: argmax of the logits over the true vocabulary
};

}  // namespace exactmamba::models
