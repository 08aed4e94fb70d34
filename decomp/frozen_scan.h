// The mixer's recurrence with everything but its input frozen, hence linear in it.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layer_trace.h"

namespace exactmamba::decomp {

/// Σ_{t ≤ i} (M_{i,t} without D) ⊙ u_t, within each sequence: u (L, D) → (L, D). Plain recurrence, time
/// linear in L; written apart from the operator that made the trace, so that an error of either shows in
/// their difference.
at::Tensor frozen_scan(const models::LayerTrace& trace, const at::Tensor& u);

/// D per channel (D): of Mamba-2, each head's for all its channels.
at::Tensor skip_per_channel(const models::LayerTrace& trace);

}  // namespace exactmamba::decomp
