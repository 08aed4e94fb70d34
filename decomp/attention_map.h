// Mamba-Attention (Ali, Zimerman & Wolf 2024), the comparison that looks at the recurrence alone: α_{i,j} =
// M_{i,j} without D-skip, convolution, gate and W_out, so of x_j's step only. In its true L×L form;
// definitions: golden/decomposition/README.md.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layer_trace.h"

namespace exactmamba::decomp {

/// Means over the channels (Mamba-1) or heads (Mamba-2) of α and of |α|: (L, L), zero where j > i or in
/// another sequence.
struct AttentionMaps {
  at::Tensor signed_mean, mean;
};

/// @throws InputError as check_trace()
AttentionMaps attention_maps(const models::LayerTrace& trace);

/// What a layer hands on for rollout: the identity (its residual stream) added to the mean of |α|, rows
/// divided by their sums.
at::Tensor attention_with_residual(const at::Tensor& mean);

}  // namespace exactmamba::decomp
