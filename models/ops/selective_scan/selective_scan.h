// The Mamba-1 scan, with Δ's bias and softplus, the D skip and the gate fused:
//   Δ_t      = softplus(delta_t + delta_bias), linear above 20; without softplus: delta_t + delta_bias
//   s_t[c,n] = exp(Δ_t[c] A[c,n]) s_{t-1}[c,n] + Δ_t[c] B_t[g(c),n] u_t[c],   g(c) = c // (D/G)
//   out_t[c] = (Σ_n C_t[g(c),n] s_t[c,n] + D[c] u_t[c]) · SiLU(z_t[c])
// (Gu & Dao 2023; mamba_ssm's selective_scan_ref)
// float and double. Last dimensions contiguous; u, delta, z, B, C may have any stride between tokens.
#pragma once

#include <ATen/core/Tensor.h>

namespace exactmamba::ops {

struct SelectiveScanInputs {
  at::Tensor u;           // (B, L, D)
  at::Tensor delta;       // (B, L, D)
  at::Tensor A;           // (D, N), negative; or A_log
  at::Tensor B;           // (B, L, N) or (B, L, G, N)
  at::Tensor C;           // like B
  at::Tensor D;           // (D) [nullable]
  at::Tensor z;           // (B, L, D) [nullable]
  at::Tensor delta_bias;  // (D) [nullable]
  at::Tensor A_log;       // (D, N) in place of A = −exp(A_log); then gradients.A is of A_log
  bool delta_softplus = true;
  at::Tensor cu_seqlens;     // see sequences.h [nullable]
  at::Tensor initial_state;  // (S, D, N); zeros if undefined [nullable]
};

/// What backward needs besides the inputs: the state at every chunk boundary, not every state.
struct SelectiveScanSaved {
  /// The state entering every chunk, in the dtype of u: (chunks, N, D), on a GPU (B, ⌈L / 32⌉, D, N).
  at::Tensor chunk_states;
};

/// @return out (B, L, D). `last_state` (S, D, N) when asked for. `saved` may be null when no backward
/// follows.
at::Tensor selective_scan_forward(const SelectiveScanInputs& in, SelectiveScanSaved* saved = nullptr,
                                  at::Tensor* last_state = nullptr);

/// Input gradients are written where defined (strided like the inputs); parameter gradients (A, D,
/// delta_bias) are ADDED where defined.
struct SelectiveScanGradients {
  at::Tensor u, delta, B, C, z;
  at::Tensor A, D, delta_bias;
  /// No gradient: out as forward gave it, written where defined, so that it need not be kept for what follows
  /// the scan. The same bits on the CPU; on a GPU the sums over n are fp32 in another order.
  at::Tensor out;
};
/// `grad_last_state` (S, D, N) [nullable].
void selective_scan_backward(const SelectiveScanInputs& in, const SelectiveScanSaved& saved,
                             const at::Tensor& grad_out, const at::Tensor& grad_last_state,
                             SelectiveScanGradients& gradients);

/// One token: u, delta, z (B, D); B, C (B, N) or (B, G, N); `state` (B, D, N) is updated in place. @return
/// (B, D)
at::Tensor selective_scan_step(const SelectiveScanInputs& in, at::Tensor& state);

}  // namespace exactmamba::ops
