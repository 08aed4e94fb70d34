// The producer of ContributionTiles of one layer.
#pragma once

#include <vector>

#include "decomp/approximation.h"
#include "decomp/contribution_tile.h"
#include "models/layer_trace.h"

namespace exactmamba::decomp {

/// Positions i × tokens j of a tile; it changes time and memory (rows · columns · (D + d) numbers), and
/// results only by rounding.
struct TileShape {
  int64_t rows = 64, columns = 64;
};

/// s_i, what multiplies υ_{i←j} before W_out (L, D): SiLU(z), Mamba-2: w ⊙ ρ ⊙ SiLU(z).
at::Tensor output_scale(const models::LayerTrace& trace);

/// Every tensor of the trace, before anything reads it by pointer. @throws InputError where a shape, a dtype
/// or cu_seqlens does not fit, or a tensor is missing or not contiguous
void check_trace(const models::LayerTrace& trace);

/// Hands every T_i(x_j) of the layer to the aggregators; with BiasRule::kSeparate also T_i(bias), as pairs
/// (i, L). In the trace's dtype.
/// @throws InputError as check_trace()
void produce_tiles(const models::LayerTrace& trace, Approximation approximation, BiasRule bias,
                   const std::vector<Aggregator*>& aggregators, TileShape shape = {});

/// The same of a trace that was checked, with `scale` (L, D) in the place of output_scale() and biases with
/// their own token.
void produce_scaled_tiles(const models::LayerTrace& trace, Approximation approximation,
                          const at::Tensor& scale, const std::vector<Aggregator*>& aggregators,
                          TileShape shape = {});

}  // namespace exactmamba::decomp
