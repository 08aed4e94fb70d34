// The Mamba-2 scan (state-space duality, Dao & Gu 2024), in chunked form: matrix products inside a chunk,
// states between chunks.
//   Δ_t[h] = clamp(softplus(dt_t[h] + dt_bias[h]), dt_limit)      (gradient 0 where clamped)
//   s_t[h] = exp(Δ_t A_h) s_{t-1}[h] + Δ_t x_t[h] B_t[g(h)]ᵀ,   g(h) = h // (H/G)
//   out_t[h] = s_t[h] C_t[g(h)] + D[h] x_t[h]
// float and double. Last dimensions contiguous; x, dt, B, C may have any stride between tokens.
#pragma once

#include <limits>

#include <ATen/core/Tensor.h>

#include "models/ops/gated_rms_norm/gated_rms_norm.h"

namespace exactmamba::ops {

struct SsdInputs {
  at::Tensor x;        // (B, L, H, P)
  at::Tensor dt;       // (B, L, H), before bias and softplus
  at::Tensor A;        // (H), negative
  at::Tensor B;        // (B, L, G, N)
  at::Tensor C;        // (B, L, G, N)
  at::Tensor D;        // (H) [nullable]
  at::Tensor dt_bias;  // (H) [nullable]
  double dt_min = 0.0, dt_max = std::numeric_limits<double>::infinity();
  int64_t chunk_size = 64;   // changes rounding only
  at::Tensor cu_seqlens;     // see sequences.h [nullable]
  at::Tensor initial_state;  // (S, H, P, N); zeros if undefined [nullable]
};

struct SsdSaved {
  at::Tensor chunk_states;  // (chunks, H, P, N): the state entering every chunk; backward can make it again
};

/// @return out (B, L, H, P). `last_state` (S, H, P, N) when asked for. `saved` may be null when no backward
/// follows.
at::Tensor ssd_forward(const SsdInputs& in, SsdSaved* saved = nullptr, at::Tensor* last_state = nullptr);

/// Mamba-2's norm behind the scan but for its scale, in one pass, which makes no output between:
/// gated_rms_norm_forward() with scale_later, as `norm` must ask for, of ssd_forward()'s output, norm.x,
/// which is left undefined. @return (B, L, H·P), and rstd (B, L, norm.groups); undefined, with nothing made,
/// where there is no such pass: a GPU's walk over the tokens has it, in bfloat16, P 64, N 128, norm.groups =
/// G, no initial state, z and the others at multiples of 16 bytes. `saved` [nullable] as above. @throws
/// InputError on shapes or dtypes that do not fit.
at::Tensor ssd_gated_forward(const SsdInputs& in, const GatedRmsNormInputs& norm, SsdSaved* saved,
                             at::Tensor& rstd);

/// Input gradients are written where defined (strided like the inputs); parameter gradients (A, D, dt_bias)
/// are ADDED where defined.
struct SsdGradients {
  at::Tensor x, dt, B, C;
  at::Tensor A, D, dt_bias;
  at::Tensor initial_state;  // (S, H, P, N), written where defined
};
/// `grad_last_state` (S, H, P, N) [nullable].
void ssd_backward(const SsdInputs& in, const SsdSaved& saved, const at::Tensor& grad_out,
                  const at::Tensor& grad_last_state, SsdGradients& gradients);

/// One token: x (B, H, P), dt (B, H), B, C (B, G, N); `state` (B, H, P, N) is updated in place. @return (B,
/// H, P)
at::Tensor ssd_step(const SsdInputs& in, at::Tensor& state);

}  // namespace exactmamba::ops
